"""The same image in two splits: found by hash or by features, in any number, and nothing else."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from test_curation import folder, lesion, run

from dermaflux.data import check, lookalikes, manifest
from dermaflux.errors import DataError


class Thumbnails:
    """Features that need no network: the image's grey values at 8 px, the same when it is mirrored."""

    def of(self, images) -> np.ndarray:
        small = (np.asarray(image.convert("L").resize((8, 8)), np.float32) for image in images)
        return np.stack([(each + each[:, ::-1]).ravel() - 2 * each.mean() for each in small])


def unit(n: int, width: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("width", [16, 300])
def test_near_features_are_those_of_all_pairs_across_splits(width, monkeypatch):
    monkeypatch.setattr(lookalikes, "BLOCK", 32)
    vectors = unit(200, width)
    noise = np.random.default_rng(1).normal(size=(50, width)) * np.linspace(0, 0.7, 50)[:, None] / width**0.5
    vectors[150:] = vectors[:50] + noise
    vectors[150:] /= np.linalg.norm(vectors[150:].astype(float), axis=1, keepdims=True)
    splits = ["train", "train", "val", "test"] * 50
    cosines = vectors.astype(float) @ vectors.astype(float).T
    wanted = {(a, b) for a, b in combinations(range(200), 2) if splits[a] != splits[b] and cosines[a, b] >= 0.9}
    found = {(a, b): cosine for a, b, cosine in lookalikes.near_features(vectors, splits, 0.9)}
    edge = {pair for pair in wanted ^ found.keys() if abs(cosines[pair] - 0.9) > 2e-3}
    assert len(wanted) > 10 and not edge
    assert all(cosine == pytest.approx(cosines[pair], abs=2e-3) for pair, cosine in found.items())


def test_features_are_kept_whole_in_parts(monkeypatch):
    monkeypatch.setattr(lookalikes, "BATCH", 4)
    images = [lesion(seed, 64) for seed in range(10)]
    found = lookalikes.embed(Thumbnails(), iter(images), 10)
    wanted = Thumbnails().of(images)
    assert found == pytest.approx(wanted / np.linalg.norm(wanted, axis=1, keepdims=True), abs=1e-3)


def test_a_mirrored_image_is_found_by_its_features_where_its_hash_says_nothing(tmp_path):
    path = folder(tmp_path, range(6), split="train")
    lesion(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    lesion(3).save(tmp_path / "again.png")
    rows = [row.values for row in manifest.read(path)]
    added = [{"file": name, "label": "benign", "split": "val"} for name in ("mirrored.png", "again.png")]
    manifest.write(path, rows + added)
    names = lambda pairs: {(pair.first.path.name, pair.second.path.name) for pair in pairs}
    assert names(check.check(path, 1).near) == {("3.png", "again.png")}
    found = check.check(path, 1, Thumbnails(), 0.995).near
    assert {("3.png", "again.png"), ("2.png", "mirrored.png")} <= names(found) and len(found) == len(names(found))
    by_features = next(pair for pair in found if pair.second.path.name == "mirrored.png")
    assert by_features.cosine == pytest.approx(1, abs=1e-2) and "cosine" in by_features.sentence()


def test_the_command_takes_a_classifier_as_judge(tmp_path):
    path = folder(tmp_path, range(3), split="train")
    result = run("check", path, "--features", "nano", "--cosine", 0.99, "--workers", 1)
    assert result.exit_code == 0 and "3 images can be used." in result.stdout
    result = run("check", path, "--features", tmp_path / "nothing")
    assert result.exit_code == 2 and "is no file *.tflite" in result.stderr


def test_near_hashes_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    base = [int.from_bytes(rng.bytes(8), "big") for _ in range(60)]
    flip = lambda value, count: value ^ sum(1 << int(bit) for bit in rng.permutation(64)[:count])
    hashes = [flip(value, count) for value in base for count in (0, 0, 2, 4, 5)]
    splits = [int(one) for one in rng.integers(0, 3, len(hashes))]
    wanted = [
        (a, b, (hashes[a] ^ hashes[b]).bit_count())
        for b in range(len(hashes))
        for a in range(b)
        if splits[a] != splits[b] and (hashes[a] ^ hashes[b]).bit_count() <= check.NEAR
    ]
    found = list(check.near_pairs(hashes, splits))
    assert len(wanted) > 100 and sorted(found) == sorted(wanted) and len(set(found)) == len(found)
    assert not list(check.near_pairs([], [])) and not list(check.near_pairs(hashes[:1], "a"))


def test_chains_of_near_hashes_are_numbered_from_the_first_on():
    step = [0, 0b111, 0b111111, 1 << 40 | 0xFFFF << 20, 0]
    assert check.alike(step) == [0, 0, 0, 1, 0] and check.alike([]) == []


def test_many_pairs_are_named_up_to_a_limit_and_the_rest_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "MOST_PAIRS", 5)
    for name in range(8):
        lesion(1, 64).save(tmp_path / f"{name}.png")
    rows = [{"file": f"{i}.png", "label": "benign", "split": ("train", "val")[i % 2]} for i in range(8)]
    manifest.write(tmp_path / "manifest.csv", rows)
    found = check.check(tmp_path / "manifest.csv", 1)
    assert len(found.near) == 5 and found.more and "There are more such pairs" in found.lines()[-1]


def test_blocks_join_without_a_seam(tmp_path, monkeypatch):
    path = folder(tmp_path, range(7), split="train", source="one")
    text = path.read_text().splitlines()
    path.write_text("\n".join([*text, text[1], text[2].replace("benign", "sick")]))
    whole = check.check(path, 1)
    monkeypatch.setattr(check, "BLOCK", 2)
    monkeypatch.setattr(check, "SAMPLE", 3)
    found = check.check(path, 1, seed=4)
    assert found.counts == whole.counts == Counter({("train", "benign"): 7}) and found.sizes == whole.sizes
    assert found.faults == whole.faults and len(found.faults) == 2 and found.columns["source"] == {"one": 7}
    names = [row.path.name for row in found.sample]
    assert len(set(names)) == 3 and names == [row.path.name for row in check.check(path, 1, seed=4).sample]


def test_what_is_no_manifest_is_refused(tmp_path):
    (tmp_path / "no.csv").write_text("name\n1\n")
    with pytest.raises(DataError, match="“file” is missing"):
        check.check(tmp_path / "no.csv", 1)

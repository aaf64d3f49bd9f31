"""What is encoded: each caption once, in parts on disk that an interrupted run goes on from, and the same losses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from test_flow import OPTIONS, losses, train

from dermaflux import phantom
from dermaflux.errors import InputError
from dermaflux.training import encoding
from dermaflux.training.encoding import Seen, encode
from dermaflux.training.fitting import BUCKET, fitted
from dermaflux.training.flow import Flow
from dermaflux.training.pairs import Pairs, Stack

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
TEXTS = ("One lesion.", "Another lesion.", "A third.")
SHORT = dict(steps=8, log_every=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def pipe(tiny_folder) -> FluxPipeline:
    return FluxPipeline.from_pretrained(tiny_folder / "pipeline", dtype=torch.float32)


@pytest.fixture(scope="module")
def images() -> list[tuple[np.ndarray, list[str]]]:
    """Six phantoms with two captions each, of three in all."""
    drawn = (phantom.draw(phantom.random_attributes(seed), seed, size=64).image for seed in range(6))
    return [(image, [TEXTS[i // 2], TEXTS[(i // 2 + 1) % 3]]) for i, image in enumerate(drawn)]


@pytest.fixture
def make(pipe, images, monkeypatch):
    """What `Pairs.cached` takes, two images a part; `make.until`: images after which it is interrupted."""
    monkeypatch.setattr(encoding, "BATCH", 2)

    def given():
        for i, image in enumerate(images):
            if i == run.until:
                raise KeyboardInterrupt
            yield image

    def run(seen: Seen):
        return encode(pipe, given(), max_sequence_length=16, views=2, seen=seen, part_bytes=run.part_bytes)

    run.until, run.part_bytes = None, 1
    return run


def held(pairs: Pairs) -> list[torch.Tensor]:
    """All that `pairs` hold, however it lies in files."""
    stacks = pairs.tokens, pairs.pooled, *(bucket.latents for bucket in pairs.buckets)
    joined = [torch.cat(list(stack.parts)) for stack in stacks]
    return [*joined, *(bucket.words for bucket in pairs.buckets), pairs.empty_tokens, pairs.empty_pooled]


def same(one: Pairs, other: Pairs) -> bool:
    return all(torch.equal(a, b) for a, b in zip(held(one), held(other), strict=True))


def test_a_caption_of_many_images_is_encoded_and_kept_once(make, pipe, tmp_path):
    make.part_bytes = 2**30
    pairs = Pairs.cached(tmp_path / "pairs.safetensors", make)
    [bucket] = pairs.buckets
    assert pairs.tokens.shape[0] == pairs.pooled.shape[0] == 3 and bucket.latents.shape[:3] == (6, 2, 16)
    assert bucket.words.tolist() == [[i // 2, (i // 2 + 1) % 3] for i in range(6)]
    wanted = pipe.encode_prompt(TEXTS[2], max_sequence_length=16)[1]
    assert torch.allclose(pairs.pooled[bucket.words[3, 1:],].float(), wanted, atol=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.safetensors"]


def test_several_parts_are_one_to_training(make, tmp_path):
    parted = Pairs.cached(tmp_path / "parted" / "pairs.safetensors", make, "these")
    make.part_bytes = 2**30
    whole = Pairs.cached(tmp_path / "whole" / "pairs.safetensors", make, "these")
    names = sorted(path.name for path in (tmp_path / "parted").iterdir())
    assert names == [*(f"pairs-0000{i}.safetensors" for i in (1, 2, 3)), "pairs.safetensors.index.json"]
    assert json.loads((tmp_path / "parted" / names[3]).read_text())["files"] == names[:3]
    assert [len(part) for part in parted.tokens.parts] == [2, 1] and same(whole, parted)
    train(whole, tmp_path / "one", **SHORT)
    train(parted, tmp_path / "other", **SHORT)
    assert len(losses(tmp_path / "one")) == 16 and torch.equal(losses(tmp_path / "one"), losses(tmp_path / "other"))


@pytest.mark.parametrize("until", [3, 5])
def test_encoding_that_was_interrupted_goes_on_from_the_parts_that_are_finished(until, make, tmp_path, monkeypatch):
    whole = Pairs.cached(tmp_path / "whole" / "pairs.safetensors", make, "these")
    path, make.until = tmp_path / "broken" / "pairs.safetensors", until
    with pytest.raises(KeyboardInterrupt):
        Pairs.cached(path, make, "these")
    finished = sorted(path.parent.iterdir())
    assert len(finished) == until // 2
    before = [file.stat().st_mtime_ns for file in finished]
    with pytest.raises(InputError, match=r"pairs-00001\.safetensors was made of these, not of those"):
        Pairs.cached(path, make, "those")
    make.until = None
    assert same(Pairs.cached(path, make, "these"), whole)
    assert [file.stat().st_mtime_ns for file in finished] == before


def test_a_run_killed_between_its_last_part_and_the_index_makes_no_part_again(make, tmp_path):
    path = tmp_path / "pairs.safetensors"
    whole = Pairs.cached(path, make)
    (tmp_path / "pairs.safetensors.index.json").unlink()
    assert same(Pairs.cached(path, make), whole) and len(list(tmp_path.iterdir())) == 4


def test_a_file_of_one_bucket_without_shared_captions_has_the_same_losses(make, tmp_path):
    """As training wrote it before captions were shared."""
    make.part_bytes = 2**30
    pairs = Pairs.cached(tmp_path / "pairs.safetensors", make)
    [bucket], part = pairs.buckets, load_file(tmp_path / "pairs.safetensors")
    held = {"latents": part["latents.4x4"], **{name: part[name][bucket.words] for name in ("tokens", "pooled")}}
    save_file(held | {name: part[name] for name in ("empty_tokens", "empty_pooled")}, tmp_path / "old.safetensors")
    old = Pairs.cached(tmp_path / "old.safetensors", make)
    assert old.tokens.shape[0] == 12
    train(pairs, tmp_path / "one", **SHORT)
    train(old, tmp_path / "other", **SHORT)
    assert torch.equal(losses(tmp_path / "one"), losses(tmp_path / "other"))


def test_a_stack_answers_as_its_parts_joined():
    parts = [torch.randn(length, 3, 2, generator=torch.Generator().manual_seed(length)) for length in (4, 1, 5)]
    joined, stack = torch.cat(parts), Stack(parts)
    first, second = torch.tensor([9, 0, 4, 3, 3, 5]), torch.tensor([2, 0, 1, 1, 2, 0])
    assert stack.shape == joined.shape
    assert torch.equal(stack[first,], joined[first]) and torch.equal(stack[first, second], joined[first, second])


@pytest.fixture(scope="module")
def shaped(pipe) -> Pairs:
    """Four wide images, a tall one and three squares, in buckets."""
    sides = [(104, 64)] * 4 + [(64, 104)] + [(64, 64)] * 3
    images = [
        (fitted(Image.effect_noise(side, 60 + i).convert("RGB"), 64, BUCKET, 16), [TEXTS[i % 3]])
        for i, side in enumerate(sides)
    ]
    return Pairs.of(encode(pipe, images, max_sequence_length=16))


def test_images_of_one_shape_share_a_bucket_and_turns_go_to_the_turned_one(shaped):
    assert [bucket.grid for bucket in shaped.buckets] == [(3, 5), (4, 4), (5, 3)]
    assert [tuple(bucket.latents.shape[:3]) for bucket in shaped.buckets] == [(5, 4, 15), (3, 8, 16), (5, 4, 15)]
    assert shaped.pictures == [20, 24, 20] and sum(shaped.pictures) == 8 * 8
    assert shaped.buckets[0].words[:, 0].tolist() == shaped.buckets[2].words[:, 0].tolist() == [0, 1, 2, 0, 1]


def test_a_batch_is_of_one_bucket_and_its_position_ids_follow_the_shape(shaped):
    flow = Flow(None, None, shaped, replace(OPTIONS, batch=3), torch.device("cpu"), shares=2)
    seen = []
    for seed in range(300):
        torch.manual_seed(seed)
        drawn = flow.draw(0.0)
        noisy = [flow.noisy(drawn, share) for share in (0, 1)]
        number = int(drawn.bucket[0])
        rows, columns = shaped.buckets[number].grid
        assert drawn.bucket.eq(number).all() and all(one.x_t.shape[:2] == (3, rows * columns) for one in noisy)
        assert all((one.image_ids.amax(0) + 1).tolist() == [1, rows, columns] for one in noisy)
        seen.append(number)
    shares = np.bincount(seen) / len(seen)
    assert np.abs(shares - np.array(shaped.pictures) / 64).max() < 0.1


def test_training_on_buckets_resumes_and_accumulates_as_on_one_shape(shaped, tmp_path):
    short = SHORT | dict(save_every=2)
    whole = train(shaped, tmp_path / "whole", batch=6, **short)
    assert train(shaped, tmp_path / "broken", stop=5, batch=6, **short) is None
    again = train(shaped, tmp_path / "broken", batch=6, **short)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    train(shaped, tmp_path / "gathered", batch=2, accumulate=3, **short)
    assert torch.allclose(losses(tmp_path / "whole"), losses(tmp_path / "gathered"), rtol=1e-5)

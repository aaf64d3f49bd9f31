"""The Draw tab's runs: what a visitor has been told of stays, whenever a run is stopped."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from test_form import NANO, recipe, values

from dermaflux.samples import Preview, Sample
from dermaflux.ui.draw import Kept, _runner, forget

PICTURE = Image.new("RGB", (NANO.size, NANO.size), "#a07050")


def page(*items):
    """What a run with these items needs of the page."""
    adapter = SimpleNamespace(warning="")
    generator = SimpleNamespace(adapter=adapter, sample=lambda *_, **__: iter(items))
    counts = []
    limits = SimpleNamespace(drawing=lambda count, run: counts.append(count) or run)
    return SimpleNamespace(spec=NANO, generator=lambda: generator, limits=limits, counts=counts)


def sample(index, seed, settled):
    return Sample(index, PICTURE, recipe(seed=seed, candidates=3), settled)


def preview(candidate, *indices, together=1):
    return Preview(1, 20, 2.0, indices, (PICTURE,) * len(indices), candidate, together, 3)


RUN = (
    preview(1, 0, 1),
    sample(0, 4, False),
    sample(1, 5, False),
    preview(2, 0, 1),
    sample(0, 14, False),
    sample(1, 15, True),
    preview(3, 0),
    sample(0, 14, True),
)


@pytest.fixture
def told():
    """All that a run of two images says, and the images kept at each moment."""
    said, kept = [], [Kept()]
    for update in _runner(page(*RUN))(None, Kept(), *values(randomise=True, count=2)):
        assert all(Path(path).exists() for path in kept[-1].paths), "even if what is said now is lost"
        said.append(update)
        if isinstance(update[2], Kept):
            kept.append(update[2])
    yield said, kept
    forget(kept[-1])


def test_a_nearer_candidate_takes_the_place_of_the_former_and_its_file(told):
    names = [[Path(path).stem.split("-")[-1] for path in kept.paths] for kept in told[1]]
    assert names[-1] == ["15", "14"] and ["5", "4"] in names
    folder = Path(told[1][-1].paths[0]).parent
    assert sorted(path.stem.split("-")[-1] for path in folder.iterdir()) == ["14", "15"]


def test_the_status_counts_settled_images_and_candidates(told):
    statuses = [str(update[0]) for update in told[0]]
    assert any("Image 1 to 2 of 2. Candidate 2 of at most 3. Step 1 of 20." in one for one in statuses)
    finished = [one for one in statuses if "images finished" in one or "Done" in one]
    assert "1 of 2 images finished" in finished[0] and "Done: 2 images" in finished[-1] and len(finished) == 2


def test_the_seed_becomes_that_of_the_first_image_kept(told):
    assert [update[5] for update in told[0] if isinstance(update[5], int)][1:] == [4, 14, 14]


def test_more_candidates_than_by_default_count_as_more_images():
    for candidates, counted in ((1, 2), (NANO.candidates, 2), (NANO.candidates + 1, 4), (16, 6)):
        here = page()
        list(_runner(here)(None, Kept(), *values(randomise=True, count=2, candidates=candidates)))
        assert here.counts == [counted]


def test_candidates_drawn_together_are_told_and_counted_as_that_many():
    run = _runner(page(preview(1, 0, together=2), preview(3, 0)))
    said = [str(update[0]) for update in run(None, Kept(), *values())]
    assert "Candidates 1 to 2 of at most 3. Step 1 of 20." in said[1] and "Candidate 3 of at most 3." in said[2]
    value = lambda text: float(re.search(r'max="1" value="([\d.]+)"', text)[1])
    assert value(said[1]) < value(said[2])

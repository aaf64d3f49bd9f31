"""A recipe in a file is believed only after checks, whatever the file holds."""

import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_recipes import RECIPE, foreign, with_chunk, with_recipe

from dermaflux.errors import InputError
from dermaflux.images import Provenance, read_provenance
from dermaflux.lesion import LesionAttributes


def with_changed(**changes) -> bytes:
    return with_recipe(json.dumps(json.loads(RECIPE.to_json()) | changes))


@pytest.mark.parametrize("data", [foreign("PNG"), foreign("JPEG"), foreign("WEBP"), b"", b"<html></html>", b"%PDF-1.4"])
def test_a_foreign_file_says_plainly_that_it_carries_no_recipe(data):
    with pytest.raises(InputError, match="carries no recipe"):
        read_provenance(data)


def test_a_foreign_png_with_texts_of_other_programs_carries_no_recipe():
    other = with_chunk(b"tEXt", b"parameters\0a cat, Steps: 20, Seed: 5")
    with pytest.raises(InputError, match="carries no recipe"):
        read_provenance(with_chunk(b"iTXt", b"dermafluxx\0\0\0\0\0{}", other))


def test_a_missing_file():
    with pytest.raises(InputError, match="cannot be read"):
        read_provenance("/no/such/file.png")


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": -1},
        {"seed": 2**40},
        {"seed": 10**400},
        {"seed": 5.0},
        {"seed": "5"},
        {"seed": True},
        {"seed": None},
        {"seed": [1]},
        {"steps": 0},
        {"steps": 10_000},
        {"size": 100_000},
        {"size": -256},
        {"guidance": 11},
        {"guidance": "3"},
        {"guidance": 10**400},
        {"guidance": float("nan")},
        {"guidance": float("inf")},
        {"true_cfg": 0.5},
        {"lora_strength": -0.1},
        {"lora_strength": None},
        {"caption": None},
        {"caption": 7},
        {"caption": "a" * 20_000},
        {"caption": "\0"},
        {"caption": "\x1b[31m"},
        {"caption": "\ud800"},
        {"negative": ["a"]},
        {"model": {}},
        {"model": "m" * 1000},
        {"lora": 3},
        {"lora_hash": "\n\x7f"},
        {"noise": "unpacked"},
        {"noise": []},
        {"arithmetic": 32},
        {"arithmetic": "a" * 81},
        {"strength": 0.5},
        {"strength": 2, "source": json.loads(RECIPE.to_json())},
        {"source": json.loads(RECIPE.to_json())},
        {"source": []},
        {"source": "recipe", "strength": 0.5},
        {"source": {}, "strength": 0.5},
        {"attributes": None},
        {"attributes": []},
        {"attributes": {"label": "healthy"}},
        {"attributes": {"asymmetry": 3}},
        {"attributes": {"asymmetry": True}},
        {"attributes": {"border": 1.5}},
        {"attributes": {"colours": "red"}},
        {"attributes": {"colours": None}},
        {"attributes": {"colours": ["red", "green"]}},
        {"attributes": {"colours": [["red"]]}},
        {"attributes": {"structures": {"dots": 1}}},
        {"attributes": {"tone": [3]}},
        {"attributes": {"name": "Jane Doe"}},
        {"prompt": "unknown setting"},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_a_recipe_with_a_wrong_value_is_refused(changes):
    with pytest.raises(InputError):
        read_provenance(with_changed(**changes))


@pytest.mark.parametrize("name", ["caption", "attributes", "seed", "model_hash", "version"])
def test_a_recipe_that_lacks_a_setting_names_it(name):
    record = json.loads(RECIPE.to_json())
    del record[name]
    with pytest.raises(InputError, match=f"{name} missing"):
        read_provenance(with_recipe(json.dumps(record)))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"source":' * 50_000 + b"null" + b"}" * 50_000,
        b"9" * 100_000,
        RECIPE.to_json().encode() + b" " * 5_000_000,
        b'{"caption": "' + b"a" * 5_000_000 + b'"}',
        RECIPE.to_json().replace('"steps":20', '"steps":NaN').encode(),
        RECIPE.to_json().replace('"steps":20', '"steps":1e999').encode(),
        RECIPE.to_json().replace('"guidance":3.5', '"guidance":-Infinity').encode(),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_a_recipe_that_is_no_sound_json_is_refused(text):
    with pytest.raises(InputError):
        read_provenance(with_recipe(text))


def test_variations_nested_too_deep_are_refused():
    record = json.loads(RECIPE.to_json())
    for _ in range(9):
        record = json.loads(RECIPE.to_json()) | {"strength": 0.5, "source": record}
    with pytest.raises(InputError):
        read_provenance(with_recipe(json.dumps(record)))


@pytest.mark.parametrize("text", [zlib.compress(b" " * 50_000_000), RECIPE.to_json().encode()])
def test_a_recipe_marked_as_compressed_is_not_unpacked(text):
    with pytest.raises(InputError, match="damaged"):
        read_provenance(with_chunk(b"iTXt", b"dermaflux\0\1\0\0\0" + text))


def test_a_chunk_that_claims_more_than_the_file_holds():
    data = bytearray(with_recipe(RECIPE.to_json()))
    data[33:37] = struct.pack(">I", 2**31 - 1)
    with pytest.raises(InputError, match="no recipe"):
        read_provenance(bytes(data))


def test_a_changed_recipe_is_told_by_its_checksum():
    with pytest.raises(InputError, match="damaged"):
        read_provenance(with_recipe(RECIPE.to_json()).replace(b'"steps":20', b'"steps":21'))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_raise_input_errors_only(data):
    damaged = bytearray(with_recipe(RECIPE.to_json()))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, 1200))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    try:
        assert read_provenance(bytes(damaged)) == RECIPE
    except InputError as error:
        assert str(error)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


NAMES = st.sampled_from(sorted(json.loads(RECIPE.to_json())))


ATTRIBUTE_NAMES = st.sampled_from(sorted(LesionAttributes.__dataclass_fields__))


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4), st.dictionaries(ATTRIBUTE_NAMES, VALUES, max_size=3))
def test_any_json_values_raise_input_errors_only(changes, attributes):
    record = json.loads(RECIPE.to_json())
    record["attributes"] |= attributes
    try:
        recipe = Provenance.from_json(json.dumps(record | changes))
    except InputError as error:
        assert str(error)
    else:
        assert Provenance.from_json(recipe.to_json()) == recipe

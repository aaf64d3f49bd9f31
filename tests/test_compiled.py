"""Compiled blocks draw the same pictures, with the first-block cache as well."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
from torch._inductor.cpp_builder import get_cpp_compiler

from dermaflux import loading
from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator, Sample
from dermaflux.models import SamplingOptions


def draw(generator, **changes):
    items = generator.sample("A benign lesion.", SamplingOptions.defaults(generator.spec, steps=2, **changes))
    return np.stack([np.asarray(item.image).astype(int) for item in items if isinstance(item, Sample)])


def test_compiled_blocks_draw_the_same_pictures(tiny_folder, tiny_generator):
    try:
        get_cpp_compiler()
    except Exception:
        pytest.skip("there is no C++ compiler")
    compiled = Generator.from_spec(tiny.spec(tiny_folder), "cpu", compiled=True)
    assert "first image" in compiled.remark and not tiny_generator.remark
    assert compiled.arithmetic == "float32 on cpu, compiled"
    blocks = (*compiled.pipe.transformer.transformer_blocks, *compiled.pipe.transformer.single_transformer_blocks)
    assert all(block._compiled_call_impl for block in blocks)
    for changes in ({}, dict(first_block_cache=0.5)):
        assert np.abs(draw(compiled, **changes) - draw(tiny_generator, **changes)).max() <= 2


def test_without_a_compiler_that_is_said_before_anything_is_loaded(tiny_folder, monkeypatch):
    def missing():
        raise RuntimeError("no compiler found")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    spec = replace(tiny.spec(tiny_folder), source="/nowhere")
    with pytest.raises(ModelUnavailable, match=r"no compiler found\. Install .* or leave --compile out"):
        loading.load(spec, "cpu", compiled=True)


def test_a_compiler_that_fails_is_said_and_other_errors_are_not_taken_for_it():
    from torch._dynamo.exc import TorchDynamoException

    error = TorchDynamoException("no header")
    assert "no header. Start again without --compile" in str(loading.not_compiled(error))
    assert loading.not_compiled(RuntimeError("overflow")) is None

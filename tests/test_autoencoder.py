"""The embedded autoencoder: the pieces that stand in for its teacher's layers, and its training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from dermaflux import phantom
from dermaflux.model_files import NATIVE
from dermaflux.training import autoencoder
from dermaflux.training.autoencoder import CONFIG, LATENTS, AutoencoderOptions
from dermaflux.training.pieces import SIDE, inner_decoder, lessons, pieces
from dermaflux.training.precision import mixed_precision
from dermaflux.training.taef2 import Taef2

OPTIONS = AutoencoderOptions(steps=2, batch=4, pieces_steps=6, pieces_batch=4, detail_steps=2, views=32)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """Sixteen phantoms: (16, 3, 256, 256) uint8."""
    drawn = (phantom.draw(phantom.random_attributes(seed), seed, NATIVE).image for seed in range(16))
    return torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in drawn])


@pytest.fixture(scope="module")
def teacher() -> Taef2:
    """A teacher of random weights."""
    torch.manual_seed(0)
    return Taef2().frozen()


@pytest.fixture(scope="module")
def trained(pixels, teacher, tmp_path_factory):
    """The model, and the folder of its run."""
    out = tmp_path_factory.mktemp("autoencoder")
    return autoencoder.train(pixels, teacher, out, OPTIONS), out


@torch.no_grad()
def test_the_pieces_in_turn_are_the_whole_student_and_the_whole_teacher(pixels, teacher):
    model, x = AutoencoderTiny(**CONFIG).eval(), pixels[:2] / 127.5 - 1
    parts = pieces(model, teacher)
    assert sum(len(list(piece.student.parameters())) for piece in parts) == len(list(model.parameters()))
    here, there = x / 2 + 0.5, teacher.taken(x / 2 + 0.5)
    for piece in parts:
        here, there = piece.student(here), piece.known(there)
        if piece.name == "encoder 16":
            assert torch.allclose(here, model.encode(x).latents, atol=1e-4)
            assert torch.allclose(there.float(), teacher.encode(x), atol=0.05)
    assert torch.allclose(here * 2 - 1, model.decode(model.encode(x).latents).sample, atol=1e-4)
    seen = F.interpolate(teacher.decode(teacher.encode(x)), scale_factor=2.0, mode="bicubic")
    assert torch.allclose(there.float() * 2 - 1, seen, atol=0.1)


@torch.no_grad()
def test_a_window_of_what_a_piece_takes_yields_the_window_that_it_gives(pixels, teacher):
    """But for its edge: so a piece can learn from windows."""
    parts = pieces(AutoencoderTiny(**CONFIG), teacher)
    for piece, (given, wanted) in zip(parts, lessons(parts, teacher, [pixels[:2] / 127.5 - 1]), strict=True):
        assert piece.whole or wanted.shape[-1] == SIDE
        again, wanted = piece.inside(piece.known(teacher.taken(given)).float()), piece.inside(wanted.float())
        assert (again - wanted).abs().mean() < 0.02 * wanted.abs().mean() + 1e-3, piece.name


@torch.no_grad()
def test_the_decoder_in_two_is_the_decoder():
    model, z = AutoencoderTiny(**CONFIG).eval(), 3 * torch.randn(1, LATENTS, 16, 16)
    first, rest = inner_decoder(model)
    assert first(z).shape[-1] == 16
    assert torch.allclose(rest(first(z)) * 2 - 1, model.decode(z).sample, atol=1e-4)


@torch.no_grad()
def test_windows_lie_where_they_are_compared_and_reach_every_edge_of_the_image():
    model, z = AutoencoderTiny(**CONFIG).eval(), torch.randn(1, LATENTS, 16, 16)
    whole, seen = model.decode(z).sample, torch.zeros(256, 256, dtype=bool)
    places = torch.stack(torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij"))[None]
    for seed in range(24):
        torch.manual_seed(seed)
        y, where, same = autoencoder._drawn(model, z, 0.0, places, whole)
        rows, columns = where[0, 0, :, 0].long(), where[0, 1, 0].long()
        seen[rows[:, None], columns] = True
        assert y.shape == same.shape and (y - same)[..., 40:-40, 40:-40].abs().max() < 0.05 * whole.std()
    assert seen[0].any() and seen[-1].any() and seen[:, 0].any() and seen[:, -1].any()


def test_latents_and_pictures_of_the_teacher_have_half_the_side(pixels, teacher):
    latents = teacher.encode(pixels[:2] / 127.5 - 1)
    assert latents.shape == (2, LATENTS, 16, 16) and latents.dtype == torch.float32
    assert teacher.decode(latents).shape == (2, 3, 128, 128)


@pytest.mark.parametrize(("native", "bits", "asked"), [(True, torch.bfloat16, "bf16"), (False, torch.float32, "no")])
def test_16_bits_are_for_processors_that_compute_with_them(native, bits, asked, pixels, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    teacher = Taef2().frozen()
    assert mixed_precision() == asked and {one.dtype for one in teacher.parameters()} == {bits}
    assert mixed_precision("no") == "no" and mixed_precision("bf16") == "bf16", "what is asked for counts"
    assert teacher.taken(pixels[:1].float()).dtype == bits and teacher.encode(pixels[:1] / 127.5 - 1).isfinite().all()


def test_the_target_lies_between_the_image_and_the_teachers_picture(pixels):
    x = pixels[:2] / 127.5 - 1
    seen = F.avg_pool2d(x, 2).flip(3)
    assert torch.equal(autoencoder.target(x, seen, 0.0), x)
    assert torch.allclose(autoencoder.target(x, F.avg_pool2d(x, 2), 1.0), x, atol=1e-6)
    apart = lambda sharp: F.mse_loss(F.avg_pool2d(autoencoder.target(x, seen, sharp), 2), seen)
    assert apart(1.0) < 0.05 * apart(0.0) and apart(1.0) < apart(0.5) < apart(0.0)


@torch.no_grad()
def test_the_trained_model_has_latents_and_images_of_its_config(trained, pixels):
    latents = trained[0].encode(pixels[:2] / 127.5 - 1).latents
    assert latents.shape == (2, CONFIG["latent_channels"], 16, 16)
    assert trained[0].decode(latents).sample.shape == (2, 3, 256, 256)


def test_training_brings_every_piece_nearer_to_the_teacher(pixels, teacher, tmp_path):
    options = replace(OPTIONS, steps=1, detail_steps=0, pieces_steps=40, pieces_rate=3e-3, ema=0.5)
    fresh = AutoencoderTiny(**CONFIG)
    learned = autoencoder.train(pixels, teacher, tmp_path, options)
    before, after = (errors(model, teacher, pixels[:8]) for model in (fresh, learned))
    assert all(after[name] < before[name] for name in before)


@torch.no_grad()
def errors(model: AutoencoderTiny, teacher: Taef2, pixels: torch.Tensor) -> dict[str, float]:
    """Of each piece, the mean square of what it gives less what the teacher does."""
    parts = pieces(model, teacher)
    known = zip(parts, lessons(parts, teacher, [pixels / 127.5 - 1]), strict=True)
    return {
        piece.name: float(F.mse_loss(piece.inside(piece.student(given.float())), piece.inside(wanted.float())))
        for piece, (given, wanted) in known
    }


def test_a_finished_run_is_not_run_again(trained, pixels, teacher):
    again = autoencoder.train(pixels, teacher, trained[1], OPTIONS)
    states = trained[0].state_dict(), again.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

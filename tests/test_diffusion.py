"""The diffusion baseline: it learns the noise, and draws by the same code as the flow."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, FluxPipeline
from test_flow import OPTIONS, losses, pairs  # noqa: F401

from dermaflux.generator import Generator
from dermaflux.noise_predictor import NoisePredictor, ddpm_times
from dermaflux.training import flow
from dermaflux.training.diffusion import Diffusion, losses_of
from dermaflux.training.flow import Flow

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@pytest.fixture
def predictor() -> NoisePredictor:
    torch.manual_seed(0)
    return NoisePredictor(**tiny._transformer().config)


def asked(transformer, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The velocity at x_t (N, 16, D) and t (N,) for captions of zeros."""
    config, n = transformer.config, len(x_t)
    with torch.no_grad():
        return transformer(
            hidden_states=x_t,
            timestep=t,
            guidance=torch.ones(n),
            pooled_projections=torch.zeros(n, config.pooled_projection_dim),
            encoder_hidden_states=torch.zeros(n, 8, config.joint_attention_dim),
            txt_ids=torch.zeros(8, 3),
            img_ids=FluxPipeline._prepare_latent_image_ids(1, 4, 4, "cpu", torch.float32),
            return_dict=False,
        )[0]


def test_times_are_where_signal_and_noise_are_as_in_the_methods_steps():
    alphas, t = DDPMScheduler().alphas_cumprod, ddpm_times()
    assert torch.allclose(t / (1 - t), ((1 - alphas) / alphas).sqrt(), rtol=1e-4)
    assert len(t) == 1000 and (t.diff() > 0).all() and 0 < t[0] < t[-1] < 1


def test_an_euler_step_along_its_velocity_is_a_step_of_ddim(predictor):
    """In the method's own coordinates x_t is divided by the length of (1 - t, t)."""
    ddim = DDIMScheduler(clip_sample=False, set_alpha_to_one=False)
    ddim.set_timesteps(10)
    start, end = (int(one) for one in ddim.timesteps[3:5])
    t = ddpm_times()[[start, end]]
    length = (t**2 + (1 - t) ** 2).sqrt()
    x_t = torch.randn(2, 16, predictor.config.in_channels)
    velocity = asked(predictor, x_t, t[:1].expand(2))
    noise = x_t + (1 - t[0]) * velocity
    expected = ddim.step(noise, start, x_t / length[0]).prev_sample
    assert torch.allclose((x_t + (t[1] - t[0]) * velocity) / length[1], expected, atol=1e-4)


def test_its_loss_is_the_squared_error_of_the_noise(predictor, pairs):  # noqa: F811
    losses = Diffusion(predictor, None, pairs, OPTIONS, torch.device("cpu"))
    noisy = losses.noisy(losses.draw(0.0), 0)
    noise = noisy.x_t + (1 - noisy.t)[:, None, None] * noisy.target
    said = noisy.x_t + (1 - noisy.t)[:, None, None] * losses.velocity(noisy, torch.ones(4))
    assert losses.matching_loss(noisy).item() == pytest.approx(F.mse_loss(said, noise).item(), rel=1e-3)
    assert set(noisy.t.tolist()) <= set(ddpm_times().tolist())


def test_the_network_decides_which_losses_it_learns_by(predictor):
    assert losses_of(predictor) is Diffusion and losses_of(tiny._transformer()) is Flow


def test_it_learns_and_its_velocity_is_finite_from_pure_noise_on(predictor, pairs, tmp_path):  # noqa: F811
    flow.train(predictor, pairs, tmp_path, OPTIONS, None, losses_of(predictor))
    found = losses(tmp_path)
    assert torch.isfinite(found).all()
    x = torch.randn(1, 16, predictor.config.in_channels)
    assert torch.isfinite(asked(predictor.eval(), x, torch.ones(1))).all()


def test_a_process_that_knows_nothing_of_training_draws_from_a_folder_with_such_a_network(predictor, tmp_path):
    pipe = tiny.pipeline()
    pipe.transformer = predictor
    pipe.save_pretrained(tmp_path / "pipeline")
    arguments = [
        "--model",
        tmp_path / "pipeline",
        "--lora",
        "none",
        "--steps",
        4,
        "--size",
        64,
        "--out",
        tmp_path / "out",
    ]
    command = [sys.executable, "-m", "dermaflux", "generate", *map(str, arguments)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    loaded = Generator.load(str(tmp_path / "pipeline"), lora="none", device="cpu").pipe.transformer
    assert type(loaded) is NoisePredictor

"""The critic of the autoencoder's decoder."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from dermaflux.training.critic import Critic, critic_loss, decoder_loss


@pytest.fixture(scope="module")
def taught() -> tuple[Critic, float]:
    """A critic taught for 60 steps to tell noise from the same noise blurred, and its first loss."""
    torch.manual_seed(0)
    critic = Critic()
    optimizer = torch.optim.AdamW(critic.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = critic_loss(critic(texture(4)), critic(blurred(texture(4))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return critic, losses[0]


def texture(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64) * 2 - 1


def blurred(x: torch.Tensor) -> torch.Tensor:
    return interpolate(avg_pool2d(x, 4), scale_factor=4.0)


def test_the_critic_learns_to_tell_smoothed_texture_from_real_one(taught):
    critic, first = taught
    torch.manual_seed(1)
    with torch.no_grad():
        real, smooth = critic(texture(8)), critic(blurred(texture(8)))
    assert critic_loss(real, smooth) < 0.5 * first
    assert real[-1].mean() > smooth[-1].mean() and real[-1].shape == (8, 1, 8, 8)


def test_following_the_critic_brings_texture_back(taught):
    critic, _ = taught
    torch.manual_seed(2)
    x = texture(2)
    y = blurred(x).requires_grad_()
    before = decoder_loss(critic(x), critic(y), 1.0)
    (gradient,) = torch.autograd.grad(before, y)
    better = y.detach() - 10 * gradient
    assert decoder_loss(critic(x), critic(better), 1.0) < before
    assert better.std() > y.std()

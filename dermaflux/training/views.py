"""Random views of images, as a classifier is shown them in training."""

import torch
import torch.nn.functional as F


def augment(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Random views of (N, 3, S, S) uint8: (N, 3, size, size) float32 in [0, 1].

    Any turn, flips, crops of half the field to all of it, stretching; changes of light and colour; and in half of the
    views a covered strip along a border or corner, where rulers, ink and coloured patches give a diagnosis away.
    """
    n = len(pixels)
    angle = torch.rand(n) * 2 * torch.pi
    scale = torch.empty(n).uniform_(0.7, 1.0)
    stretch = torch.empty(n).uniform_(-0.15, 0.15).exp()
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    shift = torch.empty(n, 2).uniform_(-1, 1) * (1.05 - scale)[:, None]
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = (
        torch.stack([cos * stretch * flip, -sin, shift[:, 0]], 1),
        torch.stack([sin * stretch * flip, cos, shift[:, 1]], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), (n, 3, size, size), align_corners=False)
    x = F.grid_sample(pixels.float() / 255, grid, padding_mode="reflection", align_corners=False)
    x = x.clamp(0, 1) ** torch.empty(n, 1, 1, 1).uniform_(-0.25, 0.25).exp()
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * torch.empty(n, 1, 1, 1).uniform_(0.75, 1.25)
    x = (x * torch.empty(n, 3, 1, 1).uniform_(0.93, 1.07)).clamp(0, 1)
    for i in (torch.rand(n) < 0.5).nonzero()[:, 0].tolist():
        _cover(x[i])
    return x


def _cover(x: torch.Tensor) -> None:
    """Cover a rectangle at the border of x (3, S, S) in place: with its mean colour or with any other."""
    size = x.shape[-1]
    depth, along = (int(torch.randint(low, high, ())) for low, high in ((size // 16, size // 4), (size // 4, size + 1)))
    start = int(torch.randint(size - along + 1, ()))
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[:depth, start : start + along] = True
    colour = x.mean((1, 2)) if torch.rand(()) < 0.5 else torch.rand(3)
    x[:, torch.rot90(mask, int(torch.randint(4, ())))] = colour[:, None]

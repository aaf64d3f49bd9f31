"""Leave out of a decoded image two things that autoencoders draw and no photograph has.

One is a faint pattern that repeats with every latent, though nothing in a lesion does; the other are colours that
change from pixel to pixel, which cameras and JPEG files do not keep. Both are in all images alike, so that they shift
what a judge of realism sees in every one.
"""

import torch
from torchvision.transforms.v2.functional import gaussian_blur

LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in the brightness of a JPEG file (ITU-T T.871)."""
BLUR = 1.0
"""Standard deviation, in px, by which colour less brightness is blurred."""


def filtered(x: torch.Tensor, cell: int, strength: float) -> torch.Tensor:
    """Images (N, 3, H, W), H and W multiples of `cell`, less a share `strength`, 0 (as they are) to 1, of what is the
    same in all of an image's cells of `cell` x `cell` px, beyond its mean, and of the finest colour; in float32.

    Of few cells what they share is the lesion as well: there should be a hundred or more."""
    if not strength:
        return x
    x = x.float()  # half a grey level is too coarse for what is left out
    return x + strength * (_smooth_in_colour(_unrepeated(x, cell)) - x)


def _unrepeated(x: torch.Tensor, cell: int) -> torch.Tensor:
    n, channels, height, width = x.shape
    shared = x.reshape(n, channels, height // cell, cell, width // cell, cell).mean((2, 4))
    return x - (shared - shared.mean((2, 3), keepdim=True)).repeat(1, 1, height // cell, width // cell)


def _smooth_in_colour(x: torch.Tensor) -> torch.Tensor:
    bright = torch.einsum("nchw,c->nhw", x, x.new_tensor(LUMA))[:, None]
    size = 2 * round(4 * BLUR) + 1
    return bright + gaussian_blur(x - bright, [size, size], [BLUR, BLUR])

"""At how many bits autoencoder, text encoders and classifier learn: at 16 where the machine has instructions for
bfloat16, else at 32. What trains transformers asks (`--set precision`).

A processor without them converts at every operation, and takes several times as long at 16 bits as at 32.
"""

import torch


def precision() -> str:
    """For accelerate: bf16 or no."""
    return "bf16" if dtype() == torch.bfloat16 else "no"


def dtype() -> torch.dtype:
    """For what is frozen beside what learns."""
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.bfloat16 if native else torch.float32

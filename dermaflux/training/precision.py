"""At how many bits is learned: at 16 where the machine has instructions for bfloat16, else at 32.

A processor without them converts at every operation, and takes several times as long at 16 bits as at 32.
"""

import torch

AUTO = "auto"


def mixed_precision(asked: str = AUTO) -> str:
    """For accelerate: `asked`, or what suits the machine, bf16 or no."""
    if asked != AUTO:
        return asked
    return "bf16" if dtype() == torch.bfloat16 else "no"


def dtype() -> torch.dtype:
    """For what is frozen beside what learns."""
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.bfloat16 if native else torch.float32

"""First-block cache: a step whose first block changes little takes over what the other blocks gave at an earlier one.

The method of ParaAttention (github.com/chengzeyi/ParaAttention), as diffusers has it.
"""

from collections.abc import Iterator

from diffusers import FirstBlockCacheConfig
from torch import nn


class FirstBlockCache:
    """What one image's drawing remembers of its last whole step; to be put on while that image is drawn.

    threshold: the change of the first block's residual, as a share of it, below which the other blocks are left out.
    Each kind of pass through the transformer is to be named by `transformer.cache_context`. What is remembered stays
    when the cache is taken off, so that runs may be interleaved.
    """

    def __init__(self, threshold: float):
        self._threshold, self._states = threshold, None

    def put_on(self, transformer: nn.Module) -> None:
        """Let passes through `transformer` be shortened, until it is taken off."""
        transformer.enable_cache(FirstBlockCacheConfig(self._threshold))
        for hook in _hooks(transformer):
            if self._states is None:
                self._states = hook.state_manager
            hook.state_manager = self._states

    def take_off(self, transformer: nn.Module) -> None:
        """Leave `transformer` as it was."""
        transformer.disable_cache()


def _hooks(transformer: nn.Module) -> Iterator:
    for block in transformer.modules():
        for hook in block._diffusers_hook.hooks.values() if hasattr(block, "_diffusers_hook") else ():
            if hasattr(hook, "state_manager"):
                yield hook

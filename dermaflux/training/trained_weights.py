"""A frozen base is the same everywhere and always: only what is trained is sent to other processes and written."""

from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dermaflux.errors import InputError

FILE = "model.safetensors"


def only(accelerator: Accelerator, model: nn.Module) -> None:
    """Let `accelerator`, which is to prepare `model`, synchronise, checkpoint and restore only what of it is trained.

    Restoring raises InputError where a checkpoint is of a run that trains other weights.
    """
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen)
    trained = lambda: {name: value for name, value in model.state_dict().items() if name not in frozen}

    def save(models: list[nn.Module], weights: list[dict], folder: str) -> None:
        weights.clear()
        if accelerator.is_main_process:
            save_file({name: value.contiguous() for name, value in trained().items()}, Path(folder) / FILE)

    def load(models: list[nn.Module], folder: str) -> None:
        models.clear()
        kept, own = load_file(Path(folder) / FILE), trained()
        if any(name not in kept or kept[name].shape != value.shape for name, value in own.items()):
            raise InputError(
                f"{folder} is the checkpoint of a run with another model, rank or targets. Repeat the command that "
                "began it, or start in another folder."
            )
        model.load_state_dict({name: kept[name] for name in own}, strict=False)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)

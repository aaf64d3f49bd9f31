"""Free memory -> how to load a model.

All figures are in GB of 2^30 bytes, as cards are labelled. Those of FLUX.1 were measured by others at 1024 px with all
parts on the card, or each moved there while it works (offload); those of other models follow from their weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
from safetensors import SafetensorError, safe_open

from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.model_files import FLUX1, Weights, weight_files
from dermaflux.models import ModelSpec

GB = 2**30
SPARE = 0.4
"""Memory left to others."""
WORKING = 5.0
"""What sampling takes beside the weights of FLUX.1 at 1024 px, the decoder's part being the largest."""


@dataclass(frozen=True)
class Way:
    """How weights are kept: `bits` of a transformer's or text encoder's parameter; offload: each part comes to the card
    while it works. package: what must be installed for it, beside what the program needs."""

    name: str
    title: str
    bits: int
    offload: bool = False
    package: str = ""

    @property
    def quantised(self) -> bool:
        return self.bits < 16


WAYS: Mapping[str, Way] = {
    way.name: way
    for way in (
        Way("bf16", "16 bits", 16),
        Way("bf16-offload", "16 bits, each part on the card while it works", 16, True),
        Way("int8", "8 bits", 8, package="torchao"),
        Way("int4", "4 bits", 4, package="bitsandbytes"),
        Way("int8-offload", "8 bits, each part on the card while it works", 8, True, "torchao"),
        Way("int4-offload", "4 bits, each part on the card while it works", 4, True, "bitsandbytes"),
        Way("float32", "32 bits, without a card", 32),
    )
}
"""In the order of preference: exact before small, small before slow."""
AUTO = "auto"
CONTAINERS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""Files of a container's control group: its limit, what it takes, and what of that are files kept in memory."""
MEASURED: Mapping[str, float] = {
    "bf16": 36.2,
    "bf16-offload": 23.3,
    "int8": 21.5,
    "int4": 17.3,
    "int8-offload": 12.2,
    "int4-offload": 12.4,
}
"""Peak on the card while FLUX.1-dev draws one image of 1024 px."""


@dataclass(frozen=True)
class Free:
    """Memory free on the card and in the machine, GB; card is None where there is no card."""

    card: float | None
    ram: float

    def with_released(self, plan: "Plan | None") -> "Free":
        """What would be free without the model that `plan` loaded, if there is one."""
        if plan is None:
            return self
        return Free(None if self.card is None else self.card + plan.card, self.ram + (0 if plan.card else plan.ram))

    @classmethod
    def now(cls, device: str) -> "Free":
        """What is free for `device`. Raises ModelUnavailable if there is no such device."""
        import torch

        ram = free_ram()
        try:
            if torch.device(device).type == "cuda":
                where = torch.device(device)
                unused = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
                return cls((torch.cuda.mem_get_info(where)[0] + unused) / GB, ram)
            torch.zeros(1, device=device).tolist()
        except (RuntimeError, AssertionError, ImportError) as error:
            raise ModelUnavailable(f"The device “{device[:40]}” cannot be used here. Choose cpu, or auto.") from error
        return cls(None if device == "cpu" else ram, ram)


def free_ram(groups: Path = Path("/sys/fs/cgroup")) -> float:
    """The memory that this process may still take, GB: what is free, and in a container no more than is left to it.

    groups: where the kernel tells the limit and use of a container, by the names of either version of control groups.
    """
    free = psutil.virtual_memory().available
    for limit, used, stat in CONTAINERS:
        try:
            most, taken = (int((groups / name).read_text()) for name in (limit, used))
            kept = dict(line.split() for line in (groups / stat).read_text().splitlines())
        except (OSError, ValueError):  # there is no such container, or no limit
            continue
        files = sum(int(kept.get(name, 0)) for name in ("inactive_file", "active_file"))  # given up when asked for
        free = min(free, most - taken + files)
    return max(free, 0) / GB


def best_device() -> str:
    """The torch device to load models on where none is named."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Plan:
    """A way to load a model, and the memory that it is expected to take on the card and in the machine, GB."""

    way: Way
    card: float
    ram: float

    def fits(self, free: Free) -> bool:
        """Whether that leaves SPARE of what is free."""
        return self.ram + SPARE <= free.ram and self.card + SPARE <= (free.card or SPARE)

    @property
    def sentence(self) -> str:
        """The plan, for people."""
        where = f"{self.card:.1f} GB on the card and " if self.card else ""
        return f"{self.way.title[0].upper()}{self.way.title[1:]}: about {where}{self.ram:.1f} GB of memory."


def plan(spec: ModelSpec, free: Free, asked: str = AUTO, installable: bool = False) -> Plan:
    """The best way to load the model of `spec` into what is `free`, or the way called `asked`, fit or not.

    installable: packages that a way needs count as installed, for a machine that is yet to be set up.

    Raises InputError for an unknown way, and ModelUnavailable where no way fits, or for want of a package or a card.
    """
    if asked != AUTO:
        if asked not in WAYS:
            raise InputError(f"The memory plan must be {AUTO} or one of {', '.join(WAYS)}, not “{asked[:40]}”.")
        way = WAYS[asked]
        if not (installable or _installed(way)):
            raise ModelUnavailable(f"The memory plan {way.name} needs a package more: pip install {way.package}.")
        if way.offload and free.card is None:
            raise ModelUnavailable(f"The memory plan {way.name} needs a graphics card; there is none.")
        return _expected(spec, way)
    ways = [way for way in WAYS.values() if (installable or _installed(way)) and _for(way, free)]
    plans = [_expected(spec, way) for way in ways]
    if best := next((one for one in plans if one.fits(free)), None):
        return best
    raise ModelUnavailable(_too_large(spec, free))


def outlook(spec: ModelSpec, free: Free, asked: str = AUTO) -> str:
    """For people, before anything is fetched: how the model of `spec` would be loaded into `free`, or why not."""
    try:
        planned = plan(spec, free, asked)
    except ModelUnavailable as error:
        return str(error)
    return planned.sentence if planned.fits(free) else f"{planned.sentence} That is more than is free."


def smaller(than: Plan, spec: ModelSpec) -> Plan | None:
    """The next way that takes less of the card, for a model that ran out of it; None if there is none."""
    plans = [_expected(spec, way) for way in WAYS.values() if _installed(way) and way.name != "float32"]
    return next((one for one in plans if one.card < than.card - SPARE), None)


def weights_of(folder: Path) -> Weights:
    """The size of the parts of the FluxPipeline, or of FLUX.1's single files, in `folder`.

    Raises ModelUnavailable if a file of it is damaged.
    """
    sizes = {"transformer": 0.0, "text": 0.0, "other": 0.0}
    for part, path in weight_files(folder):
        kind = "text" if part.startswith("text_encoder") else part if part in sizes else "other"
        try:
            with safe_open(path, "pt") as stream:
                shapes = [stream.get_slice(name).get_shape() for name in stream.keys()]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            said = f"The model cannot be loaded: {path} is truncated or not a safetensors file. Fetch it again."
            raise ModelUnavailable(said) from error
        sizes[kind] += 2 * sum(math.prod(shape) for shape in shapes) / GB
    return Weights(**sizes)


def _for(way: Way, free: Free) -> bool:
    """Whether a way is one for a machine with a card, or without, as that which is `free`."""
    return (way.name == "float32") == (free.card is None)


def _installed(way: Way) -> bool:
    return not way.package or find_spec(way.package) is not None


def _expected(spec: ModelSpec, way: Way) -> Plan:
    weights = spec.weights or weights_of(Path(spec.source))
    if way.name == "float32":
        return Plan(way, 0.0, 2 * weights.total + SPARE)
    share = way.bits / 16
    parts = weights.transformer * share, weights.text * share
    if abs(weights.total - FLUX1.total) < 1:
        card = MEASURED[way.name]
    else:
        card = (max(parts) if way.offload else sum(parts)) + weights.other + WORKING * weights.total / FLUX1.total
    through = weights.total if way.quantised or way.offload else max(weights.transformer, weights.text)
    return Plan(way, card, through)


def _too_large(spec: ModelSpec, free: Free) -> str:
    least = min((_expected(spec, way) for way in WAYS.values() if way.name != "float32"), key=lambda one: one.card)
    have = f"{free.card:.1f} GB of the card and " if free.card is not None else "no card and "
    missing = sorted({way.package for way in WAYS.values() if not _installed(way)})
    hint = f" Ways that take less need: pip install {' '.join(missing)}." if missing else ""
    return (
        f"{spec.title} does not fit: there are {have}{free.ram:.1f} GB of memory free, and the smallest way takes "
        f"about {least.card:.1f} GB of a card and {least.ram:.1f} GB of memory.{hint} Choose the embedded model, nano."
    )

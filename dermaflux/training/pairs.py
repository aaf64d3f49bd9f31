"""Pairs of latents and text embeddings, computed once and kept on disk, from which the flow is trained.

At the size of FLUX.1 an image takes 1 MB in eight views, and a caption 4 MB: tens of thousands do not fit in memory.
They are written part by part (see `encoding`), and read by mapping the files, so that only what a batch needs is read.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from dermaflux.errors import InputError
from dermaflux.files import write_atomically
from dermaflux.training.encoding import CAPTIONS, LATENTS, WORDS, Part, Seen


class Stack:
    """Tensors that differ in the length of their first side alone, one behind another without being joined."""

    def __init__(self, parts: Sequence[torch.Tensor]):
        self.parts = parts
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    @property
    def shape(self) -> torch.Size:
        """As if they were joined."""
        return torch.Size((int(self.ends[-1]), *self.parts[0].shape[1:]))

    def __getitem__(self, places: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What lies at `places` (B,) of the first side and, if given, of those behind it: (B, ...)."""
        first, *rest = places
        if len(self.parts) == 1:
            return self.parts[0][(first, *rest)]
        found = torch.empty(len(first), *self.shape[1 + len(rest) :], dtype=self.parts[0].dtype)
        of = torch.bucketize(first, self.ends, right=True)
        for number in of.unique().tolist():
            own = of == number
            start = self.ends[number] - len(self.parts[number])
            found[own] = self.parts[number][(first[own] - start, *(each[own] for each in rest))]
        return found


@dataclass(frozen=True)
class Bucket:
    """N images of one shape in V views with K wordings each.

    grid: rows and columns of latent tokens, T in all. latents: (N, V, T, D) float16, packed and scaled. words: (N, K)
    int64, places among the texts.
    """

    grid: tuple[int, int]
    latents: Stack
    words: torch.Tensor


@dataclass(frozen=True)
class Pairs:
    """Images in buckets of one shape each, M distinct captions, and the embedding of the empty one.

    tokens: (M, L, E) float16. pooled: (M, P) float16. empty_tokens: (L, E). empty_pooled: (P,). texts: the captions, as
    JSON in bytes, in parts.
    """

    buckets: tuple[Bucket, ...]
    tokens: Stack
    pooled: Stack
    empty_tokens: torch.Tensor
    empty_pooled: torch.Tensor
    texts: tuple[torch.Tensor, ...] = ()

    @property
    def captions(self) -> list[str]:
        """The M captions; none of a file of when each image had its captions for itself."""
        return [text for part in self.texts for text in json.loads(part.numpy().tobytes())]

    @property
    def pictures(self) -> list[int]:
        """How many there are in each bucket: its images times its views."""
        return [bucket.latents.shape[0] * bucket.latents.shape[1] for bucket in self.buckets]

    def digest(self) -> dict[str, str]:
        """What tells these images and captions from others: 16 hex digits."""
        found = hashlib.sha256(json.dumps([self.pictures, self.captions]).encode())
        for bucket in self.buckets:
            found.update(bucket.words.numpy().tobytes())
            found.update(bucket.latents[(torch.arange(1),)].numpy().tobytes())
        return {"images and captions": found.hexdigest()[:16]}

    @classmethod
    def of(cls, parts: Iterable[Part]) -> "Pairs":
        """Those of all `parts`, which `encoding.encode` gives, in order."""
        parts = list(parts)
        grids = dict.fromkeys(name.removeprefix(LATENTS) for part in parts for name in part if name.startswith(LATENTS))
        gather = lambda name: [part[name] for part in parts if name in part]
        buckets = tuple(
            Bucket(
                tuple(map(int, grid.split("x"))), Stack(gather(LATENTS + grid)), torch.cat(gather(WORDS + grid)).long()
            )
            for grid in sorted(grids)
        )
        texts = Stack(gather("tokens")), Stack(gather("pooled"))
        empty = parts[0]["empty_tokens"], parts[0]["empty_pooled"]
        return cls(buckets, *texts, *empty, tuple(gather(CAPTIONS)))

    @classmethod
    def load(cls, path: Path) -> "Pairs":
        """Those that `cached` has written to `path`, mapped to memory. Raises FileNotFoundError."""
        return cls.of(_current(load_file(file)) for file in _files(path) or [path])

    @classmethod
    def cached(cls, path: Path, make: Callable[[Seen], Iterable[Part]], source: str = "") -> "Pairs":
        """Those at `path`, made and written first if there are none.

        One part becomes the file `path`; several keep files of their own, named in `path`.index.json, which is written
        when all are done. Parts that an interrupted run has finished are gone on from: `make` is told what they hold.
        source: what they are made of. Raises InputError if a file notes another source; one that notes none is taken.
        """
        files = _files(path)
        for file in files or _finished(path):
            _check(file, source)
        if not files:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, make, source)
        return cls.load(path)


def _index(path: Path) -> Path:
    return path.with_name(f"{path.name}.index.json")


def _files(path: Path) -> list[Path]:
    """The files of what is whole at `path`; none if nothing is."""
    if path.exists():
        return [path]
    if not _index(path).exists():
        return []
    return [path.with_name(name) for name in json.loads(_index(path).read_text(encoding="utf-8"))["files"]]


def _finished(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}"))


def _write(path: Path, make: Callable[[Seen], Iterable[Part]], source: str) -> None:
    files, seen = _finished(path), Seen()
    for file in files:
        with safe_open(file, "pt") as stream:
            seen.add(stream.get_tensor(CAPTIONS), int(stream.metadata()["images"]))
    start = seen.images
    for part in make(seen):
        file = path.with_name(f"{path.stem}-{len(files) + 1:05d}{path.suffix}")
        notes = {"images": str(seen.images - start)} | ({"source": source} if source else {})
        content = save(part, notes)
        write_atomically(file, lambda stream, content=content: stream.write(content))
        files, start = [*files, file], seen.images
    if len(files) == 1:
        files[0].replace(path)
    else:
        names = json.dumps({"files": [file.name for file in files]}, indent=1).encode()
        write_atomically(_index(path), lambda stream: stream.write(names))


def _check(file: Path, source: str) -> None:
    with safe_open(file, "pt") as stream:
        noted = (stream.metadata() or {}).get("source", source)
    if noted != source:
        raise InputError(f"{file} was made of {noted}, not of {source}. Start in another folder, or delete it.")


def _current(part: Mapping[str, torch.Tensor]) -> Part:
    """A part as `encode` gives it, from a file of when images were squares and each had its captions for itself."""
    if "latents" not in part:
        return part
    latents, (images, wordings) = part["latents"], part["tokens"].shape[:2]
    side = round(latents.shape[2] ** 0.5)
    own = {f"{LATENTS}{side}x{side}": latents}
    own[f"{WORDS}{side}x{side}"] = torch.arange(images * wordings).view(images, wordings)
    texts = {name: part[name].flatten(0, 1) for name in ("tokens", "pooled")}
    return own | texts | {name: part[name] for name in ("empty_tokens", "empty_pooled")}

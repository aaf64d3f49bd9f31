"""A public set as its owner ships it -> a manifest."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from dermaflux.data import manifest
from dermaflux.data.registry import ARCHIVE, FITZPATRICK, Source
from dermaflux.errors import DataError
from dermaflux.lesion import DIAGNOSES, SITES

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
ASIDE = ("superpixel", "segmentation", "mask", "__macosx")
"""What the names of files that are no photographs hold."""
_SITES = {
    "head and neck": "head|neck|face|scalp|forehead|cheek|nose|ear|eyelid|eyebrow|temple|chin|lip|jaw",
    "trunk": "torso|trunk|back|chest|breast|abdomen|belly|flank|buttock",
    "upper extremity": "upper (?:extremit(?:y|ies)|limb)|shoulder|arm|forearm|elbow|wrist|hand|palm|finger|thumb",
    "lower extremity": "lower (?:extremit(?:y|ies)|limb)|hip|thigh|leg|knee|calf|shin|ankle|foot|feet|heel|sole|toe",
    "anogenital": "genital|anogenital|genitalia|perianal|perineum|vulva|penis|scrotum",
}
"""Shoulder, hip and buttock as in ICD-10, C44."""
_NAMES = {**{name: name for name in DIAGNOSES}, "nevi": "nevus", "vascular": "vascular lesion"}
LESION = "lesion_id"
TYPES = ("I", "II", "III", "IV", "V", "VI")
"""Of skin (Fitzpatrick, 1988)."""
TRUE = ("1", "1.0", "true", "True")


@dataclass
class Prepared:
    """The rows of a manifest, and what was left out: each reason with how often, and where to look first."""

    rows: list[dict[str, object]] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def leave_out(self, reason: str, where: str) -> None:
        self.left_out[reason] += 1
        self.first.setdefault(reason, where)

    def lines(self) -> list[str]:
        """The counts, for people."""
        labels = Counter(row["label"] for row in self.rows)
        kept = ", ".join(f"{count} {label}" for label, count in sorted(labels.items())) or "none"
        lines = [f"{len(self.rows)} images: {kept}."]
        return lines + [
            f"{count} left out: {reason}, first {self.first[reason]}." for reason, count in self.left_out.most_common()
        ]


def prepare(source: Source, folder: Path, root: Path) -> Prepared:
    """The manifest rows of `source` as it lies unpacked in `folder`, with files named from `root`.

    Metadata may have the shape of the set's owner or that of the ISIC Archive. Left out are
    images whose diagnosis is doubtful or unknown, that are named but not there, or there but not named.
    Raises DataError if metadata or a column of them is missing, or if `folder` is not in `root`.
    """
    folder, root = folder.resolve(), root.resolve()
    if not folder.is_relative_to(root):
        raise DataError(f"{folder} must lie in {root}, the manifest's folder, from where its rows name files.")
    if source.tables and not _tables(source, folder):
        archived = replace(source, **ARCHIVE)
        source = archived if _tables(archived, folder) else source
    images, prepared = _images(folder), Prepared()
    rows = (_of_tables if source.tables else _of_folders)(source, folder, images, prepared)
    for path, row in rows:
        row |= {"file": path.relative_to(root).as_posix(), "source": source.name, "licence": source.licence}
        prepared.rows.append(row)
    return prepared


def _of_folders(source: Source, folder: Path, images: list[Path], prepared: Prepared) -> Iterator[tuple[Path, dict]]:
    seen = set()
    for path in images:
        parts = [part.lower() for part in path.relative_to(folder).parts[:-1]]
        name = next((part for part in reversed(parts) if part in source.folders), None)
        if name is None:
            prepared.leave_out(f"not in a folder called {' or '.join(source.folders)}", path.name)
            continue
        split = next((part for part in parts if part in ("train", "val", "test")), "")
        if (split, name, path.name) in seen:  # an archive may hold its folders twice
            prepared.leave_out("there twice", path.relative_to(folder).as_posix())
            continue
        seen.add((split, name, path.name))
        yield path, _row(*source.folders[name]) | ({"split": split} if split else {})


def _of_tables(source: Source, folder: Path, images: list[Path], prepared: Prepared) -> Iterator[tuple[Path, dict]]:
    named, by_stem = set(), {_stem(path.name): path for path in reversed(images)}  # of several by one name the first
    joined = list(_joined(source, folder))
    known = {name for _, values in joined for name in values}
    for where, values in joined:
        name = values[source.image].strip()
        path = by_stem.get(_stem(name))
        if path is None:
            prepared.leave_out("named, but no such file", f"{where} ({name})")
            continue
        named.add(path)
        if missing := [name for name in source.diagnosis if name and name not in values]:
            if missing[0] not in known:
                raise DataError(f"{where}: the column “{missing[0]}” is missing.")
            prepared.leave_out("no diagnosis", where)
            continue
        said = _diagnosis(source, values)
        if said not in source.meanings:
            prepared.leave_out(f"unknown diagnosis “{said}”", where)
            continue
        label, diagnosis = source.meanings[said]
        if doubt := next((values[name] for name, text in source.left_out.items() if values.get(name) == text), None):
            prepared.leave_out(f"doubtful diagnosis “{doubt}”", where)
            continue
        if label is None:
            prepared.leave_out(f"doubtful diagnosis “{said}”", where)
            continue
        others = {own: values.get(theirs, "").strip() for own, theirs in source.columns.items()}
        readers = {"site": find_site, "sex": find_sex, "skin_tone": partial(find_tone, scale=source.tones)}
        others |= {own: find(others[own]) for own, find in readers.items() if own in others}
        diagnosis = diagnosis or find_diagnosis((values.get(name, "") for name in source.finer), label)
        yield path, _row(label, diagnosis) | others
    for path in sorted(set(by_stem.values()) - named):
        prepared.leave_out("a file that no table names", path.name)


def _row(label: str | None, diagnosis: str | None) -> dict[str, object]:
    return {"label": label, "diagnosis": diagnosis or ""}


def _joined(source: Source, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of all tables, those of one image as one, each with the place of its first line. A table without the
    column of images, but with that of lesions, tells of every image of a lesion."""
    paths = _tables(source, folder)
    if not paths:
        raise DataError(f"{folder} holds no {' or '.join(source.tables)}, the metadata of {source.title}.")
    wanted = {source.image, LESION, *source.diagnosis, *source.columns.values(), *source.finer, *source.left_out}
    rows, places, of_lesions = {}, {}, {}
    for path in paths:
        reader = _reader(path)
        columns = reader.fieldnames or ()
        if source.image not in columns and LESION not in columns:
            raise DataError(f"{path}, line 1: the column “{source.image}” is missing.")
        for values in reader:
            values = {source.renamed.get(name, name): values[name] or "" for name in columns}
            values = {name: value for name, value in values.items() if name in wanted}
            if source.image in columns:
                name = values[source.image].strip()
                places.setdefault(name, f"{path.name}, line {reader.line_num}")
                rows[name] = rows.get(name, {}) | values
            else:
                of_lesions[values[LESION]] = of_lesions.get(values[LESION], {}) | values
    for name, values in rows.items():
        yield places[name], of_lesions.get(values.get(LESION), {}) | values


def _tables(source: Source, folder: Path) -> list[Path]:
    return [path for path in _files(folder) if any(path.match(pattern) for pattern in source.tables)]


def _reader(path: Path) -> csv.DictReader:
    """The lines of a table whose columns are parted by commas or tabs."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}.") from error
    head = text.partition("\n")[0]
    return csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in head and "," not in head else ",")


def _diagnosis(source: Source, values: dict[str, str]) -> str:
    if len(source.diagnosis) == 1:
        said = values[source.diagnosis[0]].strip().removesuffix(".0")
        return next((known for known in source.meanings if known.lower() == said.lower()), said)
    chosen = [name for name in source.diagnosis if name and values[name].strip() in TRUE]
    return chosen[0] if len(chosen) == 1 else "" if not chosen else "; ".join(chosen)


def find_diagnosis(texts: Iterable[str], label: str) -> str | None:
    """The key of lesion.DIAGNOSES that the first of an owner's `texts` with one names, of those with that label."""
    for text in texts:
        said = text.lower().replace("-", " ")
        for name, diagnosis in _NAMES.items():
            if name in said and DIAGNOSES[diagnosis].label == label:
                return diagnosis
    return None


def find_site(text: str) -> str:
    """One of lesion.SITES for an owner's name of a place on the body; empty where there is none, or more than one."""
    words = " ".join(re.findall(r"[a-z]+", text.lower())).replace("back of ", "")
    found = [site for site in SITES if re.search(rf"\b(?:{_SITES[site]})s?\b", words)]
    return found[0] if len(found) == 1 else ""


def find_sex(text: str) -> str:
    """“female” or “male” for an owner's way to write it, its own word for another; empty where it is not known."""
    said = text.strip().lower()
    return {"f": "female", "m": "male", "unk": "", "unknown": "", "nan": ""}.get(said, said)


def find_tone(text: str, scale: str) -> str:
    """A skin tone with the scale that it is on, such as “Fitzpatrick III” or, of two types that an owner did not part,
    “Fitzpatrick V-VI”; empty where it is not known."""
    said = text.strip().upper().removesuffix(".0")
    if scale != FITZPATRICK:
        return f"{scale} {said}" if said.isdigit() else ""
    types = [dict(zip("123456", TYPES, strict=True)).get(digit, "") for digit in said] if said.isdigit() else [said]
    return f"{scale} {'-'.join(types)}" if set(types) <= set(TYPES) else ""


def _images(folder: Path) -> list[Path]:
    """The photographs in `folder`, in order."""
    files = [path for path in _files(folder) if path.suffix.lower() in IMAGES]
    inside = lambda path: path.relative_to(folder).as_posix().lower()
    return [path for path in files if not any(word in inside(path) for word in ASIDE)]


def _files(folder: Path) -> list[Path]:
    """The files in `folder` and all below, behind links to folders too, in order; but for names with a dot first."""
    found, seen = [], set()
    for at, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(at)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [path for name in names if not name.startswith(".") and (path := Path(at, name)).is_file()]
    return sorted(found)


def _stem(name: str) -> str:
    return Path(name).stem if Path(name).suffix.lower() in IMAGES else name


def write(prepared: Prepared, out: Path) -> None:
    """Write the manifest. What is there already keeps, of an image, its columns that are not the owner's, such as split
    and caption. Raises DataError if nothing is left to write, or what is there is no manifest."""
    if not prepared.rows:
        raise DataError(f"Nothing is left to write. {' '.join(prepared.lines()[1:])}".strip())
    before = {values["file"]: values for _, values in manifest.lines(out)} if out.exists() else {}
    manifest.write(out, [before.get(row["file"], {}) | row for row in prepared.rows])

"""How a synthetic image was made, written into its PNG and read back. Public names are also in `dermaflux.images`.

A synthetic PNG carries its recipe as JSON in an iTXt chunk `dermaflux`, the same for people in `parameters`, and XMP
with the IPTC digital source type for media made by a trained algorithm (PNG specification 1.2, section 4.2.3; IPTC
Photo Metadata Standard, DigitalSourceType). The bytes depend on the pixels and the recipe alone.
"""

import csv
import io
import json
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape

from PIL import Image, PngImagePlugin

from dermaflux.errors import InputError
from dermaflux.files import PNG_SIGNATURE, guard, png_chunks, read_bytes, write_atomically
from dermaflux.lesion import LesionAttributes
from dermaflux.models import NOISES, SamplingOptions

MAX_SOURCES = 8
MAX_RECIPE_CHARACTERS = 512 * 1024
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_CHUNK = b"dermaflux"
_UNCOMPRESSED = _CHUNK + bytes(5)  # no compression, language or translated keyword
_TEXTS = {"caption": 2000, "negative": 2000, "model": 300, "model_hash": 128, "version": 40, "arithmetic": 80}
_OPTIONAL_TEXTS = {"lora": 300, "lora_hash": 128}
_REALS = tuple(field.name for field in fields(SamplingOptions) if field.type is float and field.name != "strength")
SHARED = ("steps", "negative", "size", "noise", *_REALS)
"""The fields that a recipe and SamplingOptions have in common."""
_NO_RECIPE = "This image carries no recipe. Only a PNG saved by DermaFlux, unchanged, can be restored."
_BROKEN = "The recipe in this image is damaged, so its settings cannot be restored."


@dataclass(frozen=True)
class Provenance:
    """The recipe of one synthetic image; ranges are those of SamplingOptions.

    model, lora: names or Hub ids, with the hashes of their weights; lora is empty or None where none was used. noise:
    how the initial noise was drawn. strength, source: for a variation, its strength and the recipe of the image varied.
    first_block_cache: the threshold up to which steps were shortened. eta, eta_below: how much noise they renewed, up
    to which level. contrast: how far they led away. postfilter: what was left out. Unused they are 0, and the level
    0.5, as in versions that lacked them. guidance_below, early_guidance: up to which level the guidance counted, and
    what above; 1 in earlier versions. arithmetic: how exact the weights were and where it was drawn, as `bf16 on cuda,
    compiled`; empty in earlier versions. candidates: of at most so many this was chosen. Raises InputError for a wrong
    type or a value out of range, and for more than 8 variations of variations.
    """

    caption: str
    attributes: LesionAttributes
    seed: int
    steps: int
    guidance: float
    negative: str
    true_cfg: float
    lora_strength: float
    size: int
    model: str
    model_hash: str
    lora: str | None
    lora_hash: str | None
    version: str
    noise: str = "packed"
    strength: float | None = None
    source: "Provenance | None" = None
    first_block_cache: float = 0.0
    arithmetic: str = ""
    eta: float = 0.0
    eta_below: float = 0.5
    contrast: float = 0.0
    candidates: int = 1
    postfilter: float = 0.0
    early_guidance: float = 1.0
    guidance_below: float = 1.0

    def __post_init__(self):
        for name, limit in (_TEXTS | _OPTIONAL_TEXTS).items():
            if name in _TEXTS or getattr(self, name) is not None:
                _check_text(name, getattr(self, name), limit)
        if not isinstance(self.attributes, LesionAttributes):
            raise InputError("The recipe's attributes are not those of a lesion.")
        if self.noise not in NOISES:
            raise InputError("The recipe draws its noise in a way that this version does not know.")
        if (self.strength is None) != (self.source is None):
            raise InputError("The recipe of a variation needs both its strength and its source.")
        if self.source is not None and not isinstance(self.source, Provenance):
            raise InputError("The recipe's source is not a recipe.")
        for name in _REALS if self.strength is None else (*_REALS, "strength"):
            object.__setattr__(self, name, _real(name, getattr(self, name)))
        replace(self.options(), candidates=self.candidates)  # neither out of range
        sources, source = 0, self.source
        while source is not None:
            sources, source = sources + 1, source.source
        if sources > MAX_SOURCES:
            raise InputError(f"This varies more than {MAX_SOURCES} variations; start again from a new image.")

    def options(self) -> SamplingOptions:
        """The sampling options that draw this image."""
        varied = {} if self.strength is None else {"strength": self.strength}
        shared = {name: getattr(self, name) for name in SHARED}
        return SamplingOptions(seeds=(self.seed,), **shared, **varied)

    def to_json(self) -> str:
        """The recipe as compact JSON, the same text for the same recipe."""
        return json.dumps(self._record(), ensure_ascii=False, separators=(",", ":"))

    def _record(self) -> dict[str, object]:
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        record["attributes"] = self.attributes.specified()
        record["source"] = self.source._record() if self.source else None
        return record

    @classmethod
    def from_json(cls, text: str) -> "Provenance":
        """The recipe that `to_json` wrote. Raises InputError for anything else."""
        if len(text) > MAX_RECIPE_CHARACTERS:
            raise InputError(_BROKEN)
        try:
            return cls._from_record(json.loads(text))
        except InputError:
            raise
        except (ValueError, RecursionError):
            raise InputError(_BROKEN) from None

    @classmethod
    def _from_record(cls, record: object, sources: int = 0) -> "Provenance":
        if not isinstance(record, dict) or sources > MAX_SOURCES:
            raise InputError(_BROKEN)
        if record.keys() - {field.name for field in fields(cls)}:
            raise InputError("The recipe has settings that this version does not know; open it with a newer one.")
        missing = [name for name in _REQUIRED if name not in record]
        if missing:
            raise InputError(f"The recipe in this image is incomplete: {', '.join(missing)} missing.")
        source = record.get("source")
        source = None if source is None else cls._from_record(source, sources + 1)
        return cls(**record | {"attributes": _attributes(record["attributes"]), "source": source})


_REQUIRED = [field.name for field in fields(Provenance) if field.default is MISSING]


def _attributes(record: object) -> LesionAttributes:
    known = {field.name: field.default for field in fields(LesionAttributes)}
    if not isinstance(record, dict) or record.keys() - known.keys():
        raise InputError("The recipe's attributes are not those of a lesion.")
    for name, value in record.items():
        if known[name] == () and not isinstance(value, list):
            raise InputError(f"The recipe's {name} are not a list.")
    return LesionAttributes(**record)


def _check_text(name: str, value: object, limit: int) -> None:
    if not isinstance(value, str) or len(value) > limit:
        raise InputError(f"The recipe's {name} must be text of at most {limit} characters.")
    if any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" for character in value):
        raise InputError(f"The recipe's {name} holds control characters.")


def _real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1000 < value < 1000:
        raise InputError(f"The recipe's {name} is not a number in its range.")
    return float(value)


def save_synthetic(image: Image.Image, provenance: Provenance, path: str | Path) -> Path:
    """Write `image` as an 8-bit RGB PNG that says how it was made; returns its path. Raises InputError unless .png."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError("A synthetic image is saved as PNG; give a file name that ends in .png.")
    pixels = image.convert("RGB")
    clean = Image.frombytes("RGB", pixels.size, pixels.tobytes())
    return write_atomically(path, lambda file: clean.save(file, "PNG", pnginfo=_png_info(provenance)))


def _png_info(provenance: Provenance) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    software = f"DermaFlux {provenance.version}"
    description = f"Synthetic image of a skin lesion, made by a generative model; not a patient. {provenance.caption}"
    info.add_text("Software", software)
    info.add_text("Description", description)
    info.add_text("parameters", parameters(provenance))
    info.add_itxt(_CHUNK.decode(), provenance.to_json())
    info.add_itxt("XML:com.adobe.xmp", xmp(software, description))
    return info


def parameters(provenance: Provenance) -> str:
    """The recipe as a few lines for people: caption, negative caption, settings."""
    recipe = provenance
    settings = {"Steps": recipe.steps, "Guidance": recipe.guidance, "Seed": recipe.seed, "True CFG": recipe.true_cfg}
    settings |= {"Size": f"{recipe.size}x{recipe.size}", "Model": recipe.model, "Model hash": recipe.model_hash}
    if recipe.lora:
        settings |= {"LoRA": recipe.lora, "LoRA hash": recipe.lora_hash, "LoRA strength": recipe.lora_strength}
    if recipe.source:
        settings |= {"Variation strength": recipe.strength, "Varied from seed": recipe.source.seed}
    rare = {"First-block cache": recipe.first_block_cache, "Eta": recipe.eta, "Contrast": recipe.contrast}
    if recipe.guidance_below < 1:
        settings |= {"Early guidance": recipe.early_guidance, "Guidance below": recipe.guidance_below}
    rare |= {"Eta below": recipe.eta and recipe.eta_below, "Chosen of": recipe.candidates * (recipe.candidates > 1)}
    rare |= {"Post-filter": recipe.postfilter, "Arithmetic": recipe.arithmetic.replace(",", "")}
    settings |= {name: value for name, value in rare.items() if value}
    settings |= {"Noise": recipe.noise, "Version": recipe.version}
    lines = [recipe.caption, f"Negative prompt: {recipe.negative}" if recipe.negative else ""]
    return "\n".join(filter(None, (*lines, ", ".join(f"{name}: {value}" for name, value in settings.items()))))


def xmp(software: str, description: str) -> str:
    software, description = (
        escape("".join(c for c in text if c not in "\ufffe\uffff"), {'"': "&quot;"}) for text in (software, description)
    )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f' xmlns:dc="http://purl.org/dc/elements/1.1/" Iptc4xmpExt:DigitalSourceType="{SYNTHETIC}"'
        f' xmp:CreatorTool="{software}"><dc:description><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li>'
        '</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def read_provenance(path_or_bytes: str | Path | bytes) -> Provenance:
    """The recipe in a synthetic PNG. Raises InputError where there is none or it is not sound."""
    data = read_bytes(path_or_bytes)
    if not data.startswith(PNG_SIGNATURE):
        raise InputError(_NO_RECIPE)
    for kind, start, end in png_chunks(data):
        text = data[start + 8 : end - 4]
        if kind != b"iTXt" or not text.startswith(_CHUNK + b"\0"):
            continue
        checksum = int.from_bytes(data[end - 4 : end], "big")
        if not text.startswith(_UNCOMPRESSED) or zlib.crc32(kind + text) != checksum:
            raise InputError(_BROKEN)
        try:
            return Provenance.from_json(text[len(_UNCOMPRESSED) :].decode())
        except UnicodeDecodeError:
            raise InputError(_BROKEN) from None
    raise InputError(_NO_RECIPE)


_ATTRIBUTES = tuple(field.name for field in fields(LesionAttributes) if field.name != "label")
_SETTINGS = tuple(f.name for f in fields(Provenance) if f.name not in ("caption", "attributes", "seed", "source"))
MANIFEST_COLUMNS = ("file", "label", "split", "source", "caption", "seed", *_SETTINGS, "varied_from", *_ATTRIBUTES)


def manifest_row(file: str, provenance: Provenance) -> dict[str, object]:
    """The row of a manifest for one synthetic image, by MANIFEST_COLUMNS.

    Synthetic images belong to the split `train`, and their source is `synthetic`. Several colours, structures or
    artefacts are joined by "; ". `varied_from` is the source's recipe as JSON.
    """
    row = provenance._record() | provenance.attributes.specified() | {"file": file, "split": "train"}
    row["varied_from"] = provenance.source.to_json() if provenance.source else None
    row["source"] = "synthetic"
    return {name: _cell(row.get(name)) for name in MANIFEST_COLUMNS}


def _cell(value: object) -> object:
    return "; ".join(value) if isinstance(value, tuple) else "" if value is None else value


def bundle(paths: Sequence[str | Path], zip_path: str | Path) -> Path:
    """A ZIP of synthetic PNGs, their bytes unchanged, with a manifest.csv of their recipes, safe in a spreadsheet.

    Files of the same name are numbered. Raises InputError for no files, or for one that carries no recipe.
    """
    if not paths:
        raise InputError("There are no images to download yet; draw one first.")
    return write_atomically(Path(zip_path), lambda file: _write_bundle([Path(path) for path in paths], file))


def _write_bundle(paths: list[Path], file: BinaryIO) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, MANIFEST_COLUMNS, lineterminator="\n")
    writer.writeheader()
    taken: set[str] = {"manifest.csv"}
    with zipfile.ZipFile(file, "w") as archive:
        for path in paths:
            data = read_bytes(path)
            number, name = 1, path.name
            while name.casefold() in taken:
                number += 1
                name = f"{path.stem}-{number}{path.suffix}"
            taken.add(name.casefold())
            row = manifest_row(name, read_provenance(data))
            writer.writerow({column: guard(cell) for column, cell in row.items()})
            archive.writestr(_member(name), data)
        archive.writestr(_member("manifest.csv"), table.getvalue(), zipfile.ZIP_DEFLATED)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    return member

"""Llama 3.2: words what a form describes in free prose, and describes an image with the method's prompt.

The models are Meta's, gated, under the Llama 3.2 Community License; nothing is fetched before one is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from dermaflux import phrases
from dermaflux.caption import MAX_CHARACTERS, caption, clean, read
from dermaflux.errors import ModelUnavailable, first_line
from dermaflux.hub import fetch
from dermaflux.lesion import DIAGNOSES, LesionAttributes
from dermaflux.memory import Free, best_device
from dermaflux.text_models import TextModelSpec

FILES = ("*.json", "*.jinja", "*.safetensors", "LICENSE*")
MAX_NEW_TOKENS = 400
SPARE = 1.5
"""GB left to what is computed beside the weights."""
TASK = (
    "You word descriptions of skin lesions for dermatologists. Reword the following as two to four sentences of plain "
    "clinical prose. Keep every fact, add none, and answer with the description alone.\n\n{text}"
)
PROMPT = (
    "This is an image containing a {label} lesion. Give me a description of this mole regarding its asymmetry, border "
    "irregularity, and color."
)
"""As published (DermaFlux, arXiv 2603.16392)."""
REFUSALS = (
    "i can't",
    "i cannot",
    "i won't",
    "i'm not able",
    "i am not able",
    "i'm not going to",
    "i'm unable",
    "i am unable",
    "i'm sorry",
    "sorry",
    "unfortunately",
    "as an ai",
)
DATE = "26 Jul 2024"
"""What the models' template puts into their instructions; today's would change the answers from day to day."""


@dataclass(frozen=True)
class Worded:
    """A free text, and what about it does not hold, each as a sentence."""

    text: str
    faults: tuple[str, ...] = ()


class _Llama:
    """A model with what prepares its input, loaded where there is room: on the card, or else in memory.

    revision: its commit on the Hub; empty for a folder.
    """

    auto, prepares = AutoModelForCausalLM, AutoTokenizer

    def __init__(self, spec: TextModelSpec, device: str | None = None):
        """Raises ModelUnavailable with the reason and the way out."""
        self.spec, self.device = spec, torch.device(device or best_device())
        self._ask_for_room()
        folder = fetch(spec, FILES)
        self.revision = folder.name[:12] if folder.parent.name == "snapshots" else ""
        given = dict(local_files_only=True)
        try:
            self.prepare = self.prepares.from_pretrained(folder, **given)
            given |= dict(dtype=torch.bfloat16, use_safetensors=True, device_map={"": self.device})
            self.model = self.auto.from_pretrained(folder, **given).eval()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelUnavailable(f"The graphics card has no room for {spec.title}.") from error
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelUnavailable(f"{spec.title} cannot be loaded from {folder}: {first_line(error)}") from error

    def _ask_for_room(self) -> None:
        free = Free.now(str(self.device))
        room, where = (free.ram, "memory") if free.card is None else (free.card, "the card's memory")
        needed = self.spec.gigabytes + SPARE
        if room < needed:
            raise ModelUnavailable(
                f"{self.spec.title} takes about {needed:.0f} GB of {where}, of which {room:.0f} GB are free."
            )

    @torch.inference_mode()
    def _answer(self, inputs, tokenizer) -> list[str]:
        inputs = inputs.to(self.device)
        try:
            found = self.model.generate(
                **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelUnavailable(f"The graphics card has no room for an answer of {self.spec.title}.") from error
        answers = tokenizer.batch_decode(found[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        whole = found.shape[1] - inputs["input_ids"].shape[1] < MAX_NEW_TOKENS
        return [answer.strip() if whole else to_last_sentence(answer) for answer in answers]


class Writer(_Llama):
    """Words attributes freely, with a Llama 3.2 that reads text."""

    def word(self, attributes: LesionAttributes) -> Worded:
        """A caption that opens as the published ones do; its faults say where it departs from `attributes`.

        Raises ModelUnavailable if the model answers nothing or refuses.
        """
        asked = [{"role": "user", "content": TASK.format(text=caption(attributes))}]
        inputs = self.prepare.apply_chat_template(
            asked, add_generation_prompt=True, return_tensors="pt", return_dict=True, date_string=DATE
        )
        (answer,) = self._answer(inputs, self.prepare)
        if fault := no_description(answer):
            raise ModelUnavailable(f"{self.spec.title} did not word it. {fault}")
        text = opened(attributes.label, answer)
        return Worded(text, departures(text, attributes))


class Describer(_Llama):
    """Describes images, with a Llama 3.2 that sees."""

    auto, prepares = AutoModelForImageTextToText, AutoProcessor

    def describe(self, images: Sequence[Image.Image], labels: Sequence[str | None]) -> list[Worded]:
        """What is said of each image with the published prompt, its label named in it or, for None, left out."""
        prompts = []
        for label in labels:
            text = PROMPT.format(label=label) if label else PROMPT.replace("{label} ", "")
            content = [{"type": "image"}, {"type": "text", "text": text}]
            prompts.append(
                self.prepare.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True, date_string=DATE
                )
            )
        tokenizer = self.prepare.tokenizer
        tokenizer.padding_side = "left"
        inputs = self.prepare(
            images=[[image.convert("RGB")] for image in images],
            text=prompts,
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        answers = self._answer(inputs, tokenizer)
        return [Worded(answer, faults(answer, label)) for answer, label in zip(answers, labels, strict=True)]


def opened(label: str | None, answer: str) -> str:
    """`answer` as a caption behind the published opening, shortened to what a caption may have. Raises InputError."""
    opening = phrases.OPENING.format(label=f"{label} " if label else "")
    room = MAX_CHARACTERS - len(opening) - 1
    return clean(f"{opening} {answer if len(answer) <= room else to_last_sentence(answer[:room])}")


def to_last_sentence(answer: str) -> str:
    """`answer` up to its last full stop, where it has one; for an answer that was cut short."""
    answer = answer.strip()
    return answer[: answer.rfind(".") + 1] or answer


def faults(answer: str, label: str | None) -> tuple[str, ...]:
    """What stands against taking `answer` as the caption of an image with this label."""
    return tuple(filter(None, (no_description(answer), contradiction(answer, label))))


def contradiction(answer: str, label: str | None) -> str:
    """How `answer` speaks against the label of its image, by the word or by a diagnosis; empty if it does not."""
    seen = read(answer).attributes
    said = seen.label or (DIAGNOSES[seen.diagnosis].label if seen.diagnosis else None)
    if not label or said in (None, label):
        return ""
    return f"It calls the lesion {said if seen.label else seen.diagnosis}, against its label."


def no_description(answer: str) -> str:
    """Why `answer` describes nothing; empty if it may."""
    said = " ".join(answer.lower().replace("’", "'").split())
    if len(said) < 20:
        return "The answer is empty, or next to nothing."
    return next((f"It refuses: “{answer.strip()[:80]}”." for start in REFUSALS if said.startswith(start)), "")


def departures(text: str, attributes: LesionAttributes) -> tuple[str, ...]:
    """Where `text`, as far as it can be read, says something else than `attributes`, each as a sentence."""
    seen = read(text).attributes
    named = lambda value: ", ".join(value) if isinstance(value, tuple) else str(value)
    return tuple(
        f"It says {name.removesuffix('_mm')} {named(getattr(seen, name))}, asked was "
        f"{named(getattr(attributes, name)) if name in attributes.specified() else 'nothing'}."
        for name in seen.specified()
        if getattr(seen, name) != getattr(attributes, name)
    )

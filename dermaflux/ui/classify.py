"""The Classify tab: one image's prediction, the saliency map behind it, and its measured appearance."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from dermaflux import appearance, images, saliency
from dermaflux.errors import InputError
from dermaflux.intake import MAX_SIDE
from dermaflux.models import ASSETS
from dermaflux.ui import batch, verdict
from dermaflux.ui.context import MODEL_EVENT, PRIVATE, ClassifyTab, Context, Run, say
from dermaflux.ui.folders import new_folder

EXAMPLES = ASSETS / "examples"
WAITING = {
    "verdict": "The prediction appears here.",
    "measured": "Outline, asymmetry, border, colours, size and skin tone appear here.",
}
CHOOSE = "Choose an image first: upload one, paste one or take an example."
SET_OPACITY = "(value) => document.documentElement.style.setProperty('--saliency-opacity', value / 100)"


def build(context: Context) -> ClassifyTab:
    """Lay out the tab's content and its endpoints /classify and /measure; call it inside a gr.Tab."""
    _html(verdict.style(), "classify-style")
    requested = gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            image = gr.Image(
                label="Image to classify",
                alt_text="The image to classify",
                type="filepath",
                sources=["upload", "clipboard"],
                height=340,
                buttons=["fullscreen"],
                elem_id="classify-image",
            )
            classify = gr.Button("Classify", variant="primary", elem_id="classify-run")
            examples = _examples()
        with gr.Column(scale=7, min_width=300):
            verdict_card = _html(_waiting("verdict"), "classify-verdict")
    gr.Markdown("### Where the classifier looked")
    with gr.Row():
        method = gr.Dropdown(_methods(), value=saliency.DEFAULT, label="Saliency method", min_width=200)
        target = gr.Radio(
            [(label.capitalize(), label) for label in saliency.TARGETS],
            value=saliency.TARGETS[0],
            label="Class to explain",
            min_width=200,
        )
        opacity = gr.Slider(0, 100, 50, step=1, label="Opacity of the heat map (%)", min_width=200)
    map_card = _html(verdict.no_maps(), "classify-maps")
    gr.Markdown("### Measured appearance")
    measured_card = _html(_waiting("measured"), "classify-measured")
    with gr.Accordion("Many images", open=False):
        batch.build(context)

    cards = [verdict_card, map_card, measured_card]
    run = Run(say(_run(context)), (image, requested, method, target), cards)
    measure = Run(say(_measure_only(context)), (image, requested), cards)
    taken = [image, requested, *cards]
    raw = dict(preprocess=False, **PRIVATE)
    image.upload(say(_take), image, taken, show_progress="hidden", **raw)
    image.clear(_clear, None, [requested, *cards], show_progress="hidden", **PRIVATE)
    if examples:
        examples.select(say(_take_example), None, taken, show_progress="hidden", **PRIVATE)
    shown = dict(show_progress="full", show_progress_on=verdict_card)
    classify.click(*run, **shown, **raw, **MODEL_EVENT)
    again = say(_again(context))
    gr.on([method.input, target.input], again, [*run.inputs], cards, **shown, **raw, **MODEL_EVENT)
    opacity.change(None, opacity, None, js=SET_OPACITY, queue=False, **PRIVATE)
    _endpoints(context)
    return ClassifyTab(image=image, requested=requested, run=run, measure=measure)


def _html(value: str, elem_id: str) -> gr.HTML:
    return gr.HTML(value, elem_id=elem_id, elem_classes="dfx-host", apply_default_css=False, js_on_load=None)


def _examples() -> gr.Gallery | None:
    named = [(str(path), path.stem.replace("-", " ").capitalize()) for path in _example_paths()]
    if not named:
        return None
    return gr.Gallery(
        named,
        label="Examples (synthetic)",
        columns=4,
        allow_preview=False,
        interactive=False,
        buttons=[],
        object_fit="cover",
        height="auto",
        elem_id="classify-examples",
    )


def _example_paths() -> list[Path]:
    return sorted(EXAMPLES.glob("*.png"))


def _methods() -> list[tuple[str, str]]:
    return [(method.title, name) for name, method in saliency.METHODS.items()]


def _waiting(kind: str) -> str:
    return verdict.placeholder(WAITING[kind], kind)


def _cards(first: str | None = None) -> tuple[str, str, str]:
    return first or _waiting("verdict"), verdict.no_maps(), _waiting("measured")


def _clear() -> tuple:
    return None, *_cards()


def _take(upload: dict | str | None) -> tuple:
    """Show an upload's re-made pixels under another name; what cannot be used is said in the verdict's place."""
    try:
        path = _path(upload)
        _, provenance = decode(path)
    except InputError as error:
        return None, None, *_cards(verdict.problem(str(error)))
    taken = shutil.copyfile(path, new_folder() / "image.png")
    return str(taken), provenance, *_cards()


def _take_example(chosen: gr.SelectData) -> tuple:
    return _take(str(_example_paths()[chosen.index]))


def picture(value: dict | str | None) -> Image.Image:
    """The pixels of an image component's value, as gradio hands it over without preprocessing. Raises InputError."""
    return images.open_untrusted(_path(value))


def _path(value: dict | str | None) -> Path:
    """The file behind an image component's value, as gradio hands it over with or without preprocessing.

    What a browser says of it is not believed: only files that were uploaded, or shown, are taken. Raises InputError.
    """
    path = value.get("path") if isinstance(value, dict) else value
    if not path or (isinstance(value, dict) and not _uploaded(Path(path))):
        raise InputError(CHOOSE)
    return Path(path)


def _uploaded(path: Path) -> bool:
    return Path(get_upload_folder()).resolve() in path.resolve().parents


def decode(path: Path) -> tuple[Image.Image, images.Provenance | None]:
    """The pixels of an untrusted file and, if it is one of ours, its recipe; nothing else of an upload is kept.

    An upload in gradio's cache is overwritten by a PNG of its pixels, at most MAX_SIDE px wide or high, so that neither
    EXIF nor anything else hidden in it stays on disk; one that cannot be decoded is emptied. It is not deleted before
    the cache's other files, as gradio gives all who upload the same file the same path. Raises InputError.
    """
    uploaded = _uploaded(path) and path.is_file()
    clean = path.with_name(f"{uuid4().hex}.png")
    try:
        image = images.open_untrusted(path)
    except InputError:
        if uploaded:
            clean.touch()
            clean.replace(path)
        raise
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    provenance = recipe(path)
    if uploaded:
        if provenance:
            images.save_synthetic(image, provenance, clean)
        else:
            image.save(clean, compress_level=1)
        clean.replace(path)
    return image, provenance


def recipe(path: Path) -> images.Provenance | None:
    """The recipe that a synthetic image carries, or None."""
    try:
        return images.read_provenance(path)
    except InputError:
        return None


def _run(context: Context) -> Callable:
    def run(upload: Any, requested: images.Provenance | None, method: str, target: str) -> tuple[str, str, str]:
        path = _path(upload)
        image = images.open_untrusted(path)
        requested = recipe(path) or requested
        with context.limits.judging():
            found = appearance.measure(image)
            classifier = context.classifier()
            prediction = classifier.predict([image])[0]
            explained = saliency.explain(classifier, image, method=method, target=target)
        banner = verdict.synthetic(requested, prediction.decision) if requested else ""
        return (
            verdict.verdict(prediction, classifier.card, found, banner),
            verdict.maps(image, explained),
            _measured_card(image, found, requested),
        )

    return run


def _again(context: Context) -> Callable:
    """Classify again with another method or class, unless there is no image yet."""
    run = _run(context)

    def again(upload: Any, *rest: Any) -> tuple:
        return run(upload, *rest) if upload else (gr.skip(),) * 3

    return again


def _measure_only(context: Context) -> Callable:
    def run(upload: Any, requested: images.Provenance | None) -> tuple[str, str, str]:
        path = _path(upload)
        image = images.open_untrusted(path)
        requested = recipe(path) or requested
        banner = verdict.synthetic(requested) if requested else ""
        with context.limits.judging():
            measured = _measured_card(image, appearance.measure(image), requested)
        return verdict.not_classified(banner), verdict.no_maps(), measured

    return run


def _measured_card(image: Image.Image, found: appearance.Appearance, requested: images.Provenance | None) -> str:
    compared = appearance.compare(requested.attributes, found) if requested else ()
    return verdict.measured(appearance.annotate(image, found), found, compared)


def _endpoints(context: Context) -> None:
    with gr.Row(visible=False):
        image = gr.Image(label="image", type="filepath")
        result = gr.JSON(label="result")
        classify, measure = gr.Button("classify"), gr.Button("measure")
    shared = dict(inputs=image, outputs=result, preprocess=False, show_progress="hidden")

    def classify_image(image: dict) -> dict:
        """Classify one image of a skin lesion. For research only: not a medical device, not for diagnosis.

        Args:
            image: an image file.

        Returns:
            p_malignant, the calibrated probability of malignancy, 0 to 1; decision, malignant or benign, at the stored
            operating point; threshold of that point; lesion_like, false where the image does not look like a
            dermoscopic lesion, so that the rest means little; trained_on, what the classifier has learned from.
        """
        pixels, _ = decode(_path(image))
        with context.limits.judging():
            classifier = context.classifier()
            prediction = classifier.predict([pixels])[0]
            found = appearance.measure(pixels).found
        return {
            "p_malignant": prediction.p_malignant,
            "decision": prediction.decision,
            "threshold": classifier.card.operating_point.threshold,
            "lesion_like": prediction.lesion_like and found,
            "trained_on": classifier.card.trained_on,
        }

    def measure_image(image: dict) -> dict:
        """Measure the lesion in one image from its pixels, without a classifier.

        Args:
            image: an image file.

        Returns:
            asymmetry, 0 to 2 axes; border, 0 to 8 abruptly cut segments; colours, the dermoscopic colours present;
            size, the largest diameter in mm if the frame is 20 mm wide; ita, the individual typology angle of the skin
            in degrees; lesion_share, the lesion's share of the frame, 0 to 1. Figures about a lesion are null, and its
            share 0, where none is found.
        """
        pixels, _ = decode(_path(image))
        with context.limits.judging():
            found = appearance.measure(pixels)
        row = {name: None if value == "" else value for name, value in appearance.row(found).items()}
        return row | {"colours": list(found.colours)}

    classify.click(say(classify_image), api_name="classify", **shared, **MODEL_EVENT)
    measure.click(say(measure_image), api_name="measure", **shared)

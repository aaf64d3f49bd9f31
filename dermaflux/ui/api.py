"""The page's named endpoints /generate and /caption, for gradio_client and, with --mcp, as tools."""

import gradio as gr
from gradio.components.api_component import Api
from gradio_client.utils import python_type_to_json_schema

from dermaflux.caption import caption as word
from dermaflux.caption import clean, read
from dermaflux.errors import InputError
from dermaflux.images import save_synthetic
from dermaflux.lesion import LesionAttributes
from dermaflux.models import SamplingOptions
from dermaflux.ui import fields, folders
from dermaflux.ui.context import MODEL_EVENT, Context, counted, say


def build(context: Context) -> None:
    """Add the endpoints; call it inside the page's gr.Blocks."""
    with gr.Row(visible=False):
        _add(say(caption), "caption", gr.Textbox(label="caption"), queue=False)
        _add(say(_generate(context)), "generate", gr.File(label="images", file_count="multiple"), **MODEL_EVENT)


def _add(fn, name: str, output: gr.components.Component, **options) -> None:
    """An endpoint whose inputs are passed on as they come: the function itself checks them."""
    inputs = [
        Api(default, python_type_to_json_schema(kind), label=label)
        for label, has_default, default, kind in gr.utils.get_function_params(fn)
    ]
    gr.Button(name).click(fn, inputs, output, api_name=name, **options)


def caption(
    label: str = "benign",
    asymmetry: int | None = 0,
    border: int | None = 0,
    colours: list[str] | None = None,
    diagnosis: str | None = None,
    structures: list[str] | None = None,
    size_mm: int | None = None,
    site: str | None = None,
    tone: int | None = None,
    capture: str | None = None,
    artefacts: list[str] | None = None,
    wording: int = 0,
) -> str:
    """Word a skin lesion as a caption that the generator reads.

    Args:
        label: benign or malignant.
        asymmetry: number of asymmetric axes, 0 to 2.
        border: number of abruptly cut border segments, 0 to 8.
        colours: dermoscopic colours: white, red, light brown, dark brown, blue-grey, black.
        diagnosis: melanoma, nevus, seborrheic keratosis or another known diagnosis.
        structures: network, structureless areas, branched streaks, dots, globules.
        size_mm: largest diameter in mm, 2 to 20.
        site: head and neck, trunk, upper extremity, lower extremity or anogenital.
        tone: apparent skin tone on the Monk scale, 1 to 10.
        capture: dermoscopic or clinical.
        artefacts: hair, ruler, dark corners.
        wording: a number that picks among the phrasings.

    Returns:
        The caption.
    """
    attributes = _attributes(
        label, asymmetry, border, colours, diagnosis, structures, size_mm, site, tone, capture, artefacts
    )
    return word(attributes, fields.whole("The wording", wording))


def _generate(context: Context):
    def generate(
        caption: str = "",
        label: str = "benign",
        asymmetry: int | None = 0,
        border: int | None = 0,
        colours: list[str] | None = None,
        diagnosis: str | None = None,
        structures: list[str] | None = None,
        size_mm: int | None = None,
        site: str | None = None,
        tone: int | None = None,
        capture: str | None = None,
        artefacts: list[str] | None = None,
        count: int = 1,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        negative: str = "",
        true_cfg: float = 1.0,
        lora_strength: float | None = None,
        size: int | None = None,
        first_block_cache: float = 0.0,
        eta: float | None = None,
        contrast: float = 0.0,
        candidates: int | None = None,
        eta_below: float | None = None,
        postfilter: float | None = None,
        early_guidance: float | None = None,
        guidance_below: float | None = None,
    ) -> list[str]:
        """Draw synthetic skin lesions. For research only: not a medical device, not for diagnosis.

        Args:
            caption: free caption; if empty, the attributes below are worded.
            label: benign or malignant.
            asymmetry: number of asymmetric axes, 0 to 2.
            border: number of abruptly cut border segments, 0 to 8.
            colours: dermoscopic colours: white, red, light brown, dark brown, blue-grey, black.
            diagnosis: melanoma, nevus, seborrheic keratosis or another known diagnosis.
            structures: network, structureless areas, branched streaks, dots, globules.
            size_mm: largest diameter in mm, 2 to 20.
            site: head and neck, trunk, upper extremity, lower extremity or anogenital.
            tone: apparent skin tone on the Monk scale, 1 to 10.
            capture: dermoscopic or clinical.
            artefacts: hair, ruler, dark corners.
            count: number of images, 1 to 8, with consecutive seeds.
            seed: seed of the first image, 0 to 4294967295; with candidates 1 an image of its recipe's seed comes again.
            steps: denoising steps, 1 to 50; the model's default if not given.
            guidance: guidance scale up to guidance_below, 0 to 10; the model's default if not given.
            negative: caption to steer away from; needs true_cfg above 1.
            true_cfg: strength of classifier-free guidance, 1 (off) to 5.
            lora_strength: 0 to 1.5; the model's default if not given.
            size: side of the image in px, one of the model's sizes.
            first_block_cache: 0 (off) to 0.5; faster, slightly different images.
            eta: how much noise steps renew, 0 (none) to 1.5; the model's default if not given.
            contrast: how far to lead away from other asymmetry, border and colours, 0 (off) to 2.
            candidates: at most so many draws of each image, 1 to 16, from seeds that follow from its own; the one is
                kept that fits the attributes best and, where the model can tell, is like a photograph. The model's
                default if not given.
            eta_below: up to which noise level steps renew noise, 0.2 to 1 (all); the model's default if not given.
            postfilter: how much of what the autoencoder draws in all images to leave out, 0 (none) to 1; the model's
                default if not given.
            early_guidance: guidance scale at noise levels above guidance_below; the model's default if not given.
            guidance_below: up to which noise level guidance counts, 0 to 1 (all); the model's default if not given.

        Returns:
            PNG files, each with its full recipe in its metadata.
        """
        described = _attributes(
            label, asymmetry, border, colours, diagnosis, structures, size_mm, site, tone, capture, artefacts
        )
        text = clean(caption) if caption else word(described)
        attributes = read(text).attributes if caption else described
        options = SamplingOptions.defaults(
            context.spec,
            seeds=fields.seeds(seed, count),
            steps=steps,
            guidance=guidance,
            early_guidance=early_guidance,
            guidance_below=guidance_below,
            negative=clean(negative) if negative else "",
            true_cfg=true_cfg,
            lora_strength=lora_strength,
            size=size,
            first_block_cache=first_block_cache,
            eta=eta,
            eta_below=eta_below,
            contrast=contrast,
            candidates=candidates,
            postfilter=postfilter,
        )
        folder = folders.new_folder()
        samples = context.generator().sample(text, options, attributes=attributes)
        drawn = {
            item.index: save_synthetic(item.image, item.provenance, folder / f"dermaflux-{item.provenance.seed}.png")
            for item in context.limits.drawing(counted(options, context.spec), samples)
            if hasattr(item, "provenance") and item.settled
        }
        return [str(drawn[index]) for index in sorted(drawn)]

    return generate


def _attributes(label, asymmetry, border, colours, diagnosis, structures, size_mm, site, tone, capture, artefacts):
    """The attributes of a call. Raises InputError."""
    return LesionAttributes(
        label or None,
        diagnosis or None,
        asymmetry,
        border,
        _names("colours", colours),
        _names("structures", structures),
        size_mm,
        site or None,
        tone,
        capture or None,
        _names("artefacts", artefacts),
    )


def _names(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{name} must be a list of names, not {str(value)[:40]}.")
    return tuple(value)

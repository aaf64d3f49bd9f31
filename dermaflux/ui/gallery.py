"""The visitor's images: a gallery, the full recipe of the one chosen, and what can be done with it."""

from dataclasses import dataclass
from html import escape

import gradio as gr

from dermaflux.images import Provenance, bundle, read_provenance
from dermaflux.ui import draw, folders, rating, stage
from dermaflux.ui.context import ANSWER, MODEL_EVENT, PRIVATE, ClassifyTab, Context, Run, say
from dermaflux.ui.form import Form, restored

PLACEHOLDER = '<p class="df-placeholder">Choose an image to see its recipe.</p>'
CLICK_ZIP = "() => setTimeout(() => document.querySelector('#df-zip-file').click(), 300)"


@dataclass(frozen=True)
class GalleryArea:
    """The components of the visitor's images."""

    gallery: gr.Gallery
    recipe: gr.HTML
    png: gr.DownloadButton
    zip: gr.Button
    zip_file: gr.DownloadButton
    use: gr.Button
    vary: gr.Button
    classify: gr.Button
    measure: gr.Button
    rating: rating.RatingArea | None

    @property
    def panel(self) -> list:
        return [self.recipe, self.png, self.zip, self.use, self.vary, self.classify, self.measure]


def build(context: Context, form: Form) -> GalleryArea:
    """Lay out the gallery, the recipe panel and the rating, below form and stage."""
    gr.HTML('<h2 class="df-heading">Your images</h2><p class="df-hint">Kept while this page is open.</p>')
    gallery = gr.Gallery(
        label="Your images",
        show_label=False,
        format="png",
        columns=6,
        fit_columns=False,
        height=236,
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="df-gallery",
    )
    with gr.Row(elem_classes="df-recipe-row"):
        with gr.Column(scale=7, min_width=300):
            recipe = gr.HTML(PLACEHOLDER, elem_id="df-recipe")
            rated = rating.build(context)
        with gr.Column(scale=5, min_width=280, elem_classes="df-recipe-actions"):
            off = dict(interactive=False)
            with gr.Row():
                png = gr.DownloadButton("Download PNG", elem_id="df-png", min_width=130, **off)
                archive = gr.Button("Download all (ZIP)", elem_id="df-zip", min_width=130, **off)
            with gr.Row():
                classify = gr.Button("Classify this", elem_id="df-classify", min_width=130, **off)
                measure = gr.Button("Measure this", elem_id="df-measure", min_width=130, **off)
            use = gr.Button("Use this recipe", elem_id="df-use", **off)
            with gr.Group():
                form.settings["strength"].render()
                vary = gr.Button("Vary this image", elem_id="df-vary", **off)
            gr.HTML('<p class="df-hint">A variation follows the description and settings in the form.</p>')
            hidden = gr.DownloadButton("ZIP file", elem_id="df-zip-file", elem_classes="df-hidden")
    return GalleryArea(gallery, recipe, png, archive, hidden, use, vary, classify, measure, rated)


def shown(area: draw.DrawArea, images: GalleryArea) -> Run:
    """What shows the recipe of the selected image, and the visitor's rating of it."""
    panel = Run(say(_panel), [area.selected], images.panel)
    if images.rating is None:
        return panel
    rated = images.rating.shown(area.selected)
    both = lambda path, given: (*panel.fn(path), *rated.fn(path, given))
    return Run(both, rated.inputs, [*panel.outputs, *rated.outputs])


def wire(context: Context, form: Form, area: draw.DrawArea, images: GalleryArea) -> None:
    """Connect choosing, downloading and reusing images."""
    images.gallery.select(say(_choose), area.kept, [area.selected, area.stage, area.status], **ANSWER).then(
        *shown(area, images), **ANSWER
    )
    images.use.click(
        say(lambda path: restored(context.generator(), read_provenance(path))), area.selected, form.everything, **ANSWER
    )
    if images.rating:
        rating.wire(context, images.rating, area.selected)
    images.zip.click(say(_bundle), area.kept, images.zip_file, **ANSWER).success(None, None, None, js=CLICK_ZIP)


def carry(area: draw.DrawArea, images: GalleryArea, tabs: gr.Tabs, classify: ClassifyTab) -> None:
    """Connect "Classify this" and "Measure this": the image and its recipe go to the classify tab, which then runs."""
    for button, run in ((images.classify, classify.run), (images.measure, classify.measure or classify.run)):
        moved = button.click(
            say(lambda path: (path, read_provenance(path), gr.Tabs(selected=classify.tab_id))),
            area.selected,
            [classify.image, classify.requested, tabs],
            **ANSWER,
        )
        moved.success(*run, **MODEL_EVENT, **PRIVATE)


def recipe_table(recipe: Provenance) -> str:
    """Every field of a recipe as an HTML table, with the recipe of the image it varies."""
    cells = ((escape(name), escape(value)) for name, value in _rows(recipe))
    cells = ((name, f"<code>{value}</code>" if name.endswith("hash") else value) for name, value in cells)
    rows = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in cells)
    source = ""
    if recipe.source is not None:
        source = f"<details><summary>Recipe of the image it varies</summary>{recipe_table(recipe.source)}</details>"
    return f'<div class="df-table"><table><tbody>{rows}</tbody></table>{source}</div>'


def _rows(recipe: Provenance):
    named = dict(recipe.attributes.specified())
    for name, value in named.items():
        text = ", ".join(value) if isinstance(value, tuple) else str(value)
        yield {"size_mm": "Largest diameter (mm)", "tone": "Skin tone (Monk)"}.get(name, name.capitalize()), text
    yield "Caption", recipe.caption
    yield "Seed", str(recipe.seed)
    yield "Steps", str(recipe.steps)
    yield "Guidance", f"{recipe.guidance:g}"
    if recipe.guidance_below < 1:
        yield "Early guidance", f"{recipe.early_guidance:g} above level {recipe.guidance_below:g}"
    yield "Negative caption", recipe.negative or "none"
    yield "True CFG", f"{recipe.true_cfg:g}" + (" (off)" if recipe.true_cfg == 1 else "")
    yield "LoRA", f"{recipe.lora}, strength {recipe.lora_strength:g}" if recipe.lora else "none"
    if recipe.lora_hash:
        yield "LoRA hash", recipe.lora_hash
    yield "Size", f"{recipe.size} px"
    if recipe.strength is not None:
        yield "Variation strength", f"{recipe.strength:g}"
    yield "Model", recipe.model
    yield "Model hash", recipe.model_hash
    yield "Noise", recipe.noise
    if recipe.eta:
        yield "Fresh noise (eta)", f"{recipe.eta:g} up to level {recipe.eta_below:g}"
    if recipe.contrast:
        yield "Contrast", f"{recipe.contrast:g}"
    if recipe.postfilter:
        yield "Post-filter", f"{recipe.postfilter:g}"
    if recipe.candidates > 1:
        yield "Chosen of", f"at most {recipe.candidates} candidates"
    if recipe.first_block_cache:
        yield "First-block cache", f"{recipe.first_block_cache:g}"
    if recipe.arithmetic:
        yield "Arithmetic", recipe.arithmetic
    yield "DermaFlux version", recipe.version


def _panel(path: str | None):
    if path is None:
        return PLACEHOLDER, *(gr.skip() for _ in range(6))
    on = gr.Button(interactive=True)
    return recipe_table(read_provenance(path)), gr.DownloadButton(value=path, interactive=True), on, on, on, on, on


def _choose(kept: draw.Kept, event: gr.SelectData):
    path = kept.paths[event.index]
    return path, draw.view(path), stage.status(draw.line(read_provenance(path)) + ". Chosen from your images.")


def _bundle(kept: draw.Kept) -> str:
    return str(bundle(kept.paths, folders.new_folder() / "dermaflux-images.zip"))

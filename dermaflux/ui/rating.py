"""Rate one image: how far it looks like the lesion that was asked for, and a remark; never with who said so."""

from dataclasses import dataclass, replace

import gradio as gr

from dermaflux.errors import InputError
from dermaflux.feedback import HIGHEST, LOWEST, MAX_REMARK, Rating, to_csv
from dermaflux.files import write_atomically
from dermaflux.images import read_provenance
from dermaflux.ui import folders, stage
from dermaflux.ui.context import ANSWER, PRIVATE, Context, Run, say

QUESTION = "Looks like a lesion as asked"
SCORES = [(f"{LOWEST}, not at all", LOWEST), ("2", 2), ("3", 3), ("4", 4), (f"{HIGHEST}, fully", HIGHEST)]
NAME_SCORES = f"""() => setTimeout(() =>
  document.querySelector('#df-rate-score').setAttribute('aria-label', '{QUESTION}, {LOWEST} to {HIGHEST}'), 300)"""
HINT = "Kept with the image's recipe, without your name. Do not write about a person."


@dataclass(frozen=True)
class Given:
    """A visitor's ratings by the path of their image, and the CSV of them."""

    ratings: tuple[tuple[str, Rating], ...] = ()
    csv: str | None = None


@dataclass(frozen=True)
class RatingArea:
    """The components of a rating. given: gr.State with Given."""

    score: gr.Radio
    remark: gr.Textbox
    save: gr.Button
    csv: gr.DownloadButton
    said: gr.HTML
    given: gr.State

    def shown(self, selected: gr.State) -> Run:
        """What shows the visitor's rating of the selected image, if it has one."""
        return Run(say(_shown), [selected, self.given], [self.score, self.remark, self.save, self.said])


def build(context: Context) -> RatingArea | None:
    """Lay out the folded section; nothing where visitors are not asked."""
    if context.ratings is None:
        return None
    off = dict(interactive=False)
    with gr.Accordion("Rate this image", open=False, elem_id="df-rate") as fold:
        score = gr.Radio(
            SCORES,
            label=QUESTION,
            elem_id="df-rate-score",
            elem_classes="df-chips df-plain",
            **off,
        )
        remark = gr.Textbox(
            label="Remark, if you like", info=HINT, lines=2, max_length=MAX_REMARK, elem_id="df-rate-remark", **off
        )
        with gr.Row():
            save = gr.Button("Save rating", elem_id="df-rate-save", min_width=130, **off)
            csv = gr.DownloadButton("Download my ratings (CSV)", elem_id="df-rate-csv", min_width=130, **off)
        said = gr.HTML(stage.status("Choose an image first."), elem_id="df-rate-status")
    fold.expand(None, None, None, js=NAME_SCORES, queue=False, **PRIVATE)
    return RatingArea(score, remark, save, csv, said, gr.State(Given(), delete_callback=forget))


def wire(context: Context, area: RatingArea, selected: gr.State) -> None:
    """Connect saving a rating of the selected image."""
    inputs = [selected, area.score, area.remark, area.given]
    area.save.click(say(_saver(context)), inputs, [area.said, area.csv, area.given], **ANSWER)


def forget(given: Given) -> None:
    """Remove the file of a visitor who left."""
    folders.remove(filter(None, (given.csv,)))


def _shown(path: str | None, given: Given) -> tuple:
    rating = dict(given.ratings).get(path)
    on = path is not None
    return (
        gr.Radio(value=rating.score if rating else None, interactive=on),
        gr.Textbox(value=rating.remark if rating else "", interactive=on),
        gr.Button(interactive=on),
        stage.status(_said(rating) if rating else "Not rated by you." if on else "Choose an image first."),
    )


def _saver(context: Context):
    def save(path: str | None, score: int | None, remark: str, given: Given) -> tuple:
        if path is None:
            raise InputError("Choose an image first.")
        ratings = dict(given.ratings)
        rating = Rating(read_provenance(path), score, remark or "")
        if path in ratings:
            rating = replace(rating, id=ratings[path].id)
        with context.limits.rating():
            context.ratings().keep(rating)
        ratings[path] = rating
        text = to_csv(ratings.values()).encode()
        csv = write_atomically(folders.new_folder() / "dermaflux-ratings.csv", lambda file: file.write(text))
        forget(given)
        button = gr.DownloadButton(value=str(csv), interactive=True)
        return stage.status(_said(rating)), button, Given(tuple(ratings.items()), str(csv))

    return save


def _said(rating: Rating) -> str:
    return f"You rated this image {rating.score} of {HIGHEST}."

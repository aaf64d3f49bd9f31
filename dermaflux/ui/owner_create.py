"""The form that creates a study, and the helper that says how large it should be."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import gradio as gr
from gradio.events import Dependency

from dermaflux.study.protocol import MAX_CASES, MAX_REPEATS, MIN_CASES, PRACTICE, Questions, Strata
from dermaflux.ui import owner_files, owner_html
from dermaflux.ui.owner_desk import HEAVY, Desk

if TYPE_CHECKING:
    from dermaflux.study.store import Store

QUESTIONS = {
    "source": "Real or synthetic",
    "realism": "Realism",
    "diagnosis": "Diagnosis",
    "attributes": "Attributes seen",
    "artefacts": "Artefacts",
    "match": "Match with the caption",
}
HINT = (
    "Synthetic images carry their recipes, as this page draws them, or come with a manifest; real ones come with a "
    f"manifest, or without labels as a folder. {PRACTICE} practice cases are taken from the same pictures. A study of "
    "synthetic images alone asks no “real or synthetic”. Readers come in once you open it."
)


def build(desk: Desk) -> Dependency:
    """Lay out both sections; returns what happens when a study was created, which chooses it."""
    with gr.Accordion("New study", open=False, elem_id="df-owner-new"):
        gr.HTML(f'<p class="df-hint">{HINT}</p>')
        with gr.Row():
            name = gr.Textbox(label="Name", max_length=100, elem_id="df-owner-name")
            cases = gr.Number(
                label="Cases", value=60, precision=0, minimum=MIN_CASES, maximum=MAX_CASES, elem_id="df-owner-cases"
            )
            closes = gr.Textbox(label="Closing date", info="Last day, in UTC; empty for none", placeholder="2030-12-31")
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300):
                drawn = gr.Textbox(
                    label="Synthetic images", info="Folder or manifest on this page's machine, or upload"
                )
                drawn_files = gr.File(
                    label="PNGs, or a ZIP of them",
                    file_count="multiple",
                    file_types=[".png", ".zip"],
                    height=170,
                    elem_id="df-owner-synthetic",
                )
            with gr.Column(min_width=300):
                real = gr.Textbox(
                    label="Real images", info="Folder or manifest on this page's machine, or upload; may be left out"
                )
                real_files = gr.File(
                    label="ZIP of images with their manifest as a CSV, or of PNGs",
                    file_count="multiple",
                    file_types=[".zip"],
                    height=170,
                    elem_id="df-owner-real",
                )
        training = gr.Textbox(
            label="Training images", info="Manifest on this page's machine: cases too near to one of them are reported"
        )
        questions = gr.CheckboxGroup(
            [(title, name) for name, title in QUESTIONS.items()],
            value=list(QUESTIONS),
            label="Questions",
            info="With all ticked, those that the pictures allow",
            elem_classes="df-chips df-plain",
        )
        with gr.Row():
            strata = gr.CheckboxGroup(
                [(one.name.capitalize(), one.name) for one in fields(Strata)],
                value=["label"],
                label="Balanced by",
                info="Besides the source",
                elem_classes="df-chips df-plain",
            )
            repeats = gr.Slider(0, MAX_REPEATS, value=0.1, step=0.05, label="Share of cases shown twice")
            seed = gr.Number(label="Seed", value=0, precision=0, minimum=0, info="Of the choice of cases and orders")
        create = gr.Button("Create study", variant="primary", elem_id="df-owner-create")
        made = gr.HTML(elem_id="df-owner-made")
    inputs = [name, cases, drawn, drawn_files, real, real_files, training, questions, strata, repeats, seed, closes]
    _helper(desk)
    return desk.on(create.click, _creator(desk), inputs, [made, desk.study], **HEAVY | dict(show_progress="full"))


def _creator(desk: Desk) -> Callable:
    def create(
        store: "Store",
        name: str,
        cases: int,
        drawn: str,
        drawn_files: list[str] | None,
        real: str,
        real_files: list[str] | None,
        training: str,
        questions: list[str],
        strata: list[str],
        repeats: float,
        seed: int | None,
        closes: str,
    ) -> tuple:
        from dermaflux.study import owner

        with owner_files.kept(desk.settings.data_dir / "pools" / uuid4().hex[:12]) as folder:
            wanted = owner.Wanted(
                name or "",
                cases,
                owner_files.pool(drawn, drawn_files, folder / "synthetic"),
                owner_files.pool(real, real_files, folder / "real"),
                float(repeats or 0),
                tuple(strata),
                () if set(questions) == set(vars(Questions())) else tuple(questions),
                owner.closing((closes or "").strip()),
                owner_files.place(training),
                seed or 0,
            )
            done = owner.create(store, wanted, desk.settings.owner_password)
        names = [one.name for one in store.studies()]
        return owner_html.lines(_said(done, folder), "status"), gr.Dropdown(choices=names, value=done.name)

    return create


def _said(done, folder: Path) -> list[str]:
    kept = [f"The files are kept in {folder}."] if folder.exists() else []
    return [f"“{done.name}” is a draft with:", *done.lines(), *kept, "Look at it below, open it and invite readers."]


def _helper(desk: Desk) -> None:
    """Lay out the sample-size helper."""
    with gr.Accordion("How many readers and cases?", open=False):
        gr.HTML(
            '<p class="df-hint">For a study that wants to show that readers cannot tell synthetic from real images: '
            "the fewest cases that show equivalence to chance, if there is no difference.</p>"
        )
        with gr.Row():
            margin = gr.Slider(0.05, 0.3, value=0.1, step=0.01, label="Margin about chance")
            power = gr.Slider(0.5, 0.95, value=0.8, step=0.05, label="Power")
        ask = gr.Button("Compute", elem_id="df-owner-sizes")
        answer = gr.HTML(elem_id="df-owner-sizes-answer")

    def sizes(_: "Store", margin: float, power: float) -> str:
        from dermaflux.study.planning import sample_sizes

        return owner_html.lines([one.text() for one in sample_sizes(margin, power)], "status")

    desk.on(ask.click, sizes, [margin, power], [answer])

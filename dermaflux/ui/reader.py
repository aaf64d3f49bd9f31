"""The Review tab: from the main page, a reader of a study goes by their own link to the page that shows it alone."""

import gradio as gr

from dermaflux.ui.context import LIVE

TITLE = "Review"
STYLE = "<style>#df-reader { max-width: 640px; }</style>"
WELCOME = (
    "Readers of a study come in by the link that its owner gave them. It opens a page of its own, where you begin, or "
    "go on where you stopped."
)
WRONG = "That is no reader's link; copy the whole of it, from http to its end."
GO = """(given) => {
    const token = given.trim().match(/^(?:.*[?&]reader=)?([\\w-]{22})$/)?.[1];
    if (!token) return `<p role="alert">%s</p>`;
    window.location.assign(`${window.gradio_config.root.replace(/\\/$/, "")}/review?reader=${token}`);
    return "";
}"""


def build() -> None:
    """Lay out and connect the tab, inside its gr.Tab. What is given stays in the browser until it opens the link."""
    gr.HTML(f'{STYLE}<p class="df-hint">{WELCOME}</p>')
    with gr.Column(elem_id="df-reader"):
        link = gr.Textbox(label="Your link", max_lines=1, elem_id="df-reader-link")
        go = gr.Button("Go to the study", variant="primary", elem_id="df-reader-go")
        told = gr.HTML(elem_id="df-reader-told")
    for happens in (go.click, link.submit):
        happens(None, link, told, js=GO % WRONG, **LIVE)

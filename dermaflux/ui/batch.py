"""Many images or a ZIP of them, classified into a table that downloads as CSV."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from dermaflux import appearance
from dermaflux.errors import InputError
from dermaflux.files import guard, write_atomically
from dermaflux.intake import opened
from dermaflux.ui import verdict
from dermaflux.ui.context import MODEL_EVENT, PRIVATE, Context, say
from dermaflux.ui.folders import new_folder

if TYPE_CHECKING:
    from PIL import Image

    from dermaflux.classifier import Classifier, Prediction

COLUMNS = ("file", "p_malignant", "decision", "lesion_like")
HEADERS = ("File", "Lesion-like", "Probability of malignancy", "Decision", "Remark")
MAX_FILES = 500
CHUNK = 8


@dataclass(frozen=True)
class Row:
    """One file's line in the table: its prediction, or what is wrong with it."""

    file: str
    prediction: "Prediction | None" = None
    remark: str = ""

    def shown(self) -> tuple[str, str, str, str, str]:
        """The cells of the table on the page, by HEADERS."""
        found = self.prediction
        if found is None:
            return self.file, "", "", "", self.remark
        remark = "" if found.lesion_like else f"{verdict.NOT_A_LESION}."
        return self.file, _yes(found.lesion_like), verdict.percent(found.p_malignant), found.decision, remark

    def cells(self) -> tuple:
        """The cells of the CSV, by COLUMNS; safe to open in a spreadsheet."""
        name, found = guard(self.file), self.prediction
        if found is None:
            return name, "", "", ""
        return name, f"{found.p_malignant:.6f}", found.decision, str(found.lesion_like).lower()


def build(context: Context) -> None:
    """Lay out the section for many images; its listeners are not part of the named API."""
    rows = gr.State(())
    files = gr.File(
        label=f"Images, or a ZIP of images (at most {MAX_FILES})",
        file_count="multiple",
        file_types=["image", ".zip"],
        height=180,
        elem_id="batch-files",
    )
    with gr.Row():
        start = gr.Button("Classify all", variant="primary", elem_id="batch-run")
        stop = gr.Button("Stop", elem_id="batch-stop")
    summary = gr.Markdown("Results appear in the table below. Stop keeps what is done.")
    table = gr.HTML(
        to_html(()), elem_id="batch-table", elem_classes="dfx-host", apply_default_css=False, js_on_load=None
    )
    download = gr.DownloadButton("Download CSV", interactive=False, elem_id="batch-csv")

    started = start.click(
        say(_classify_all(context)), files, [rows, table, summary], show_progress_on=table, **MODEL_EVENT, **PRIVATE
    )
    offer = dict(fn=_offer, inputs=rows, outputs=[download, summary], show_progress="hidden", **PRIVATE)
    for ended in (started.success, started.failure):
        ended(**offer)
    stop.click(**offer, cancels=started)


def _classify_all(context: Context) -> Callable:
    def run(paths: list[str] | None, progress=gr.Progress()) -> Iterator[tuple]:  # noqa: B008
        if not paths:
            raise InputError("Choose images or a ZIP of images first.")
        yield (), to_html(()), "Reading the files …"
        files = [Path(path) for path in paths]
        total = None if any(file.suffix.lower() == ".zip" for file in files) else len(files)
        for rows in classify_files(files, context.classifier(), context.limits.judging):
            progress((len(rows), total), desc="Classifying", unit="images")
            yield rows, to_html(rows), _summary(rows)

    return run


def classify_files(
    paths: Sequence[Path],
    classifier: "Classifier",
    counted: Callable[[int], AbstractContextManager] = lambda count: nullcontext(),
) -> Iterator[tuple[Row, ...]]:
    """Classify image files and the images in ZIPs; yields all rows so far, a few images more each time.

    A file that fails has its row too. counted: entered with the number of the next images, and may refuse them.
    Raises InputError for more than MAX_FILES files or images.
    """
    rows: tuple[Row, ...] = ()
    images = _named_apart(opened(paths))
    while chunk := list(islice(images, CHUNK)):
        if len(paths) > MAX_FILES or len(rows) + len(chunk) > MAX_FILES:
            raise InputError(f"That is more than {MAX_FILES} images; classify them in several runs.")
        with counted(len(chunk)):
            rows += _classify_chunk(classifier, chunk)
        yield rows


def _named_apart(images: Iterable[tuple]) -> Iterator[tuple]:
    """`images` by the last part of their names, with a number where one of that name came before."""
    known: Counter[str] = Counter()
    for name, image in images:
        name = Path(name).name
        known[name] += 1
        yield name if known[name] == 1 else f"{name} ({known[name]})", image


def _classify_chunk(classifier: "Classifier", chunk: "list[tuple[str, Image.Image | InputError]]") -> tuple[Row, ...]:
    sound = [image for _, image in chunk if not isinstance(image, InputError)]
    predictions = iter(classifier.predict(sound))
    return tuple(
        Row(name, remark=str(image)) if isinstance(image, InputError) else _judge(name, image, next(predictions))
        for name, image in chunk
    )


def _judge(name: str, image: "Image.Image", prediction: "Prediction") -> Row:
    try:
        found = appearance.measure(image).found
    except InputError as error:
        return Row(name, remark=str(error))
    return Row(name, replace(prediction, lesion_like=prediction.lesion_like and found))


def _summary(rows: Iterable[Row]) -> str:
    rows = tuple(rows)
    failed = sum(row.prediction is None for row in rows)
    unlike = sum(row.prediction is not None and not row.prediction.lesion_like for row in rows)
    malignant = sum(row.prediction is not None and row.prediction.decision == "malignant" for row in rows)
    parts = [f"{len(rows) - failed} classified", f"{malignant} decided malignant"]
    parts += [f"{unlike} not lesion-like"] if unlike else []
    parts += [f"{failed} could not be read (see the remarks)"] if failed else []
    return ", ".join(parts) + "."


def _offer(rows: tuple[Row, ...]) -> tuple:
    """The CSV of what is done so far, ready to download."""
    if not rows:
        return gr.DownloadButton(value=None, interactive=False), "Nothing was classified."
    path = write_atomically(new_folder() / "classification.csv", lambda file: file.write(to_csv(rows).encode()))
    return gr.DownloadButton(value=str(path), interactive=True), _summary(rows)


def to_html(rows: Iterable[Row]) -> str:
    """The rows as a table that scrolls within its frame."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in HEADERS)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.shown())}</tr>" for row in rows)
    return (
        '<div class="dfx dfx-card dfx-results" tabindex="0" role="region" aria-label="Results">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def to_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV with the columns file, p_malignant, decision, lesion_like; blank where a file failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row.cells() for row in rows)
    return text.getvalue()

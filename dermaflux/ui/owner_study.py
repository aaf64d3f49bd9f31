"""What the owner does with the chosen study: open, close, invite, withdraw, leave pictures out, take files."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from gradio.events import Dependency

from dermaflux.errors import InputError
from dermaflux.ui import folders, owner_files, owner_html
from dermaflux.ui.context import LIVE
from dermaflux.ui.owner_desk import HEAVY, Desk

if TYPE_CHECKING:
    from dermaflux.study.store import Store

MOST_INVITED = 50
SAVE = "() => setTimeout(() => document.querySelector('#df-owner-file').click(), 300)"
_URL = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True)
class Area:
    """The components that show the chosen study. address: where readers find this page. link: those of the
    readers that were just invited."""

    glance: gr.HTML
    open: gr.Button
    close: gr.Button
    delete: gr.Button
    readers: gr.HTML
    withdrawn: gr.Dropdown
    log: gr.HTML
    address: gr.Textbox
    link: gr.Textbox
    changes: tuple[Dependency, ...]

    @property
    def shown(self) -> list:
        return [self.glance, self.open, self.close, self.delete, self.readers, self.withdrawn, self.log]


def look(store: "Store", study: str | None) -> list:
    """The values of `Area.shown` for a study, or for none."""
    if not study:
        off = gr.Button(interactive=False)
        return ["", off, off, off, "", gr.Dropdown(choices=[], value=None), ""]
    one, who = store.summary(study), store.readers(study)
    return [
        owner_html.at_a_glance(one),
        gr.Button(interactive=one.state == "created"),
        gr.Button(interactive=one.state != "closed"),
        gr.Button(interactive=not one.answers),
        owner_html.readers(who),
        gr.Dropdown(choices=[reader.reader for reader in who if not reader.withdrawn], value=None),
        owner_html.log(store.events(study)),
    ]


def build(desk: Desk) -> Area:
    """Lay out and connect what is done with the chosen study."""
    glance = gr.HTML(elem_id="df-owner-glance")
    with gr.Row(equal_height=False):
        opens = gr.Button("Open: let readers in", variant="primary", elem_id="df-owner-open", min_width=180)
        closes = gr.Button("Close for ever", variant="stop", elem_id="df-owner-close", min_width=180)
        deletes = gr.Button("Delete, while unanswered", variant="stop", elem_id="df-owner-delete", min_width=180)
        sure = gr.Checkbox(label="Yes, this cannot be undone", min_width=220, elem_id="df-owner-sure")
    deleted = desk.of(deletes.click, _confirmed("Delete", lambda store, study: store.delete(study)), [sure], [sure])
    changes = [
        desk.of(opens.click, lambda store, study: store.open(study), [], []),
        desk.of(closes.click, _confirmed("Close", lambda store, study: store.close(study)), [sure], [sure]),
        deleted,
    ]
    with gr.Accordion("Invite readers", open=False, elem_id="df-owner-invite-part"):
        with gr.Row():
            count = gr.Number(label="How many", value=1, precision=0, minimum=1, maximum=MOST_INVITED, min_width=110)
            address = gr.Textbox(label="Address of this page for readers", elem_id="df-owner-address", scale=4)
        invite = gr.Button("Invite", elem_id="df-owner-invite")
        link = gr.Textbox(
            label="Links", lines=2, max_lines=12, interactive=False, buttons=["copy"], elem_id="df-owner-link",
            info="Shown this once; a link cannot be looked up again. Give each reader one of their own.",
        )  # fmt: skip
    changes.append(desk.of(invite.click, _invite, [count, address], [link]))
    deleted.success(lambda: "", None, link, **LIVE)
    with gr.Accordion("Readers", open=False):
        readers = gr.HTML(elem_id="df-owner-readers")
        with gr.Row(equal_height=False):
            withdrawn = gr.Dropdown([], label="Withdraw a reader", elem_id="df-owner-withdrawn")
            agreed = gr.Checkbox(label="Delete all answers of this reader", elem_id="df-owner-agreed")
            withdraw = gr.Button("Withdraw", variant="stop", elem_id="df-owner-withdraw", min_width=140)
    changes.append(desk.of(withdraw.click, _withdraw, [withdrawn, agreed], [agreed]))
    changes += _pictures(desk)
    with gr.Accordion("Log", open=False):
        log = gr.HTML(elem_id="df-owner-log")
    return Area(glance, opens, closes, deletes, readers, withdrawn, log, address, link, tuple(changes))


def _confirmed(name: str, act: Callable) -> Callable:
    """`act` on a study, once the box beside the button `name` is ticked, which is cleared again."""

    def acted(store: "Store", study: str, sure: bool) -> bool:
        if sure is not True:
            raise InputError(f"Tick that this cannot be undone; then press {name} again.")
        act(store, study)
        return False

    return acted


def _invite(store: "Store", study: str, count: int | None, address: str) -> str:
    from dermaflux.study.access import link

    if not _URL.fullmatch(address or ""):
        raise InputError("The address of this page for readers begins with http:// or https://.")
    if type(count) is not int or not 1 <= count <= MOST_INVITED:
        raise InputError(f"Invite 1 to {MOST_INVITED} readers at once.")
    found = [(reader, link(address, token)) for reader, token in store.invite(study, count)]
    return found[0][1] if count == 1 else "\n".join(f"{reader}\t{one}" for reader, one in found)


def _withdraw(store: "Store", study: str, reader: str | None, agreed: bool) -> bool:
    if not reader:
        raise InputError("Choose the reader to withdraw.")
    if agreed is not True:
        raise InputError("Tick that all answers of this reader are to be deleted; then press Withdraw again.")
    store.withdraw(study, reader)
    return False


def _pictures(desk: Desk) -> list[Dependency]:
    """Lay out what leaves pictures out of synthesis; returns what changes the study."""
    with gr.Accordion("Leave out of synthesis", open=False, elem_id="df-owner-flags-part"):
        with gr.Row(equal_height=False):
            case = gr.Textbox(label="Case", info="As named under its picture", elem_id="df-owner-case")
            out = gr.Button("Leave out", min_width=120)
            back = gr.Button("Take back in", min_width=120)
        gr.HTML('<p class="df-hint">A manifest of the study\'s images, with a column left_out for later runs:</p>')
        with gr.Row(equal_height=False):
            images = gr.Textbox(label="Synthetic images", info="Their folder or manifest on this page's machine")
            name = gr.Textbox(label="File to write beside them", value="left-out.csv")
            most = gr.Number(label="Flagged by at least", info="Readers; yours always count", value=1, precision=0)
        write = gr.Button("Write and download", elem_id="df-owner-flags")
        said = gr.HTML()
        file = _hidden("df-owner-manifest")
    written = desk.of(write.click, _mark, [images, name, most], [said, file], **HEAVY)
    written.success(None, None, None, js=SAVE.replace("df-owner-file", "df-owner-manifest"))
    return [
        desk.of(out.click, lambda store, study, case: store.leave_out(study, case or ""), [case], []),
        desk.of(back.click, lambda store, study, case: store.leave_out(study, case or "", out=False), [case], []),
        written,
    ]


def _mark(store: "Store", study: str, images: str, name: str, readers: int | None) -> tuple[str, str]:
    from dermaflux.study import owner

    where = owner_files.place(images)
    if where is None:
        raise InputError("Say where the study's synthetic images are: their folder or manifest.")
    if not re.fullmatch(r"[\w-][\w .-]{0,80}\.csv", name or ""):
        raise InputError("The file to write is a plain name that ends in .csv, such as left-out.csv.")
    out = (where if where.is_dir() else where.parent) / name
    left, every = owner.leave_out(store, study, where, out, max(1, readers or 1))
    copy = shutil.copy(out, folders.new_folder() / name)
    return owner_html.lines([f"{left} of {every} images are left out. Written to {out}."], "status"), str(copy)


def build_files() -> tuple[dict[gr.Button, Callable], gr.DownloadButton]:
    """Lay out the downloads: buttons with what each makes, and the hidden one that saves it."""
    making = {
        "Report (HTML)": _report,
        "Report (Markdown, ZIP)": _report_zip,
        "Readings and codebook (ZIP)": _export,
        "Backup of all studies": _backup,
    }
    with gr.Row():
        buttons = {
            gr.Button(title, min_width=200, elem_classes="df-owner-take"): make for title, make in making.items()
        }
    return buttons, _hidden("df-owner-file")


def wire_files(
    desk: Desk, buttons: dict[gr.Button, Callable], file: gr.DownloadButton, margin: gr.Slider
) -> list[Dependency]:
    """Connect the downloads; returns what they change, which is the log."""
    how = HEAVY | dict(show_progress="minimal")
    taken = [desk.of(button.click, make, [margin], [file], **how) for button, make in buttons.items()]
    for one in taken:
        one.success(None, None, None, js=SAVE)
    return taken


def _hidden(name: str) -> gr.DownloadButton:
    return gr.DownloadButton("File", elem_id=name, elem_classes="df-hidden")


def _report(store: "Store", study: str, margin: float) -> str:
    from dermaflux.study import report

    folder = folders.new_folder()
    report.write_study(store, study, folder, margin)
    return str((folder / report.HTML).rename(folder / f"{_file_name(study)}.html"))


def _report_zip(store: "Store", study: str, margin: float) -> str:
    from dermaflux.study import report

    return _zipped(study, "report", lambda out: report.write_study(store, study, out, margin))


def _export(store: "Store", study: str, margin: float) -> str:
    from dermaflux.study import owner

    return _zipped(study, "readings", lambda out: owner.export(store.readings(study, log="exported"), out))


def _backup(store: "Store", study: str, margin: float) -> str:
    return str(store.backup(folders.new_folder() / "studies.sqlite"))


def _zipped(study: str, what: str, write: Callable[[Path], object]) -> str:
    folder = folders.new_folder()
    write(folder / what)
    return shutil.make_archive(str(folder / f"{_file_name(study)}-{what}"), "zip", folder / what)


def _file_name(study: str) -> str:
    return re.sub(r"[^\w-]+", "-", study).strip("-")[:60] or "study"

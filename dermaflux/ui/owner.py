"""The Study tab: what the owner of reader studies does, behind the owner's password."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr
from gradio.route_utils import get_root_url

from dermaflux.errors import InputError
from dermaflux.ui import owner_create, owner_html, owner_results, owner_study
from dermaflux.ui.context import ANSWER, LIVE, PRIVATE, Context, say
from dermaflux.ui.owner_desk import Desk, Lock, is_unlocked, unlocked_until

if TYPE_CHECKING:
    from dermaflux.study.store import Store

TITLE = "Study"
WELCOME = "Blinded studies in which dermatologists read images: for their owner. Readers come in by their own links."
RELOAD = "() => window.location.reload()"


def build(context: Context, tabs: gr.Tabs, lock: Lock | None = None) -> None:
    """Lay out and connect the tab, inside its gr.Tab; `lock` is that of the owner's password if not given."""
    lock = lock or Lock(context.settings.owner_password)
    unlocked = gr.State(0.0)
    gr.HTML(f'{owner_html.style()}<p class="df-hint">{WELCOME}</p>')
    with gr.Column(elem_id="df-owner-gate") as gate:
        password = gr.Textbox(
            label="Owner's password",
            type="password",
            html_attributes=gr.InputHTMLAttributes(autocomplete="current-password"),
            elem_id="df-owner-password",
        )
        enter = gr.Button("Unlock", variant="primary", elem_id="df-owner-unlock")
    desk = Desk(
        context.studies,
        context.settings,
        unlocked,
        gr.Dropdown([], label="Study", elem_id="df-owner-study", render=False),
    )
    with gr.Column(visible=False, elem_id="df-owner") as inside:
        with gr.Row(equal_height=False):
            gr.HTML('<h2 class="df-heading">Studies</h2>')
            leave = gr.Button("Lock", size="sm", min_width=90, elem_id="df-owner-lock", scale=0)
        listed = gr.HTML(elem_id="df-owner-list")
        made = owner_create.build(desk)
        gr.HTML('<h2 class="df-heading">One study</h2>')
        desk.study.render()
        area = owner_study.build(desk)
        files = owner_study.build_files()
        results = owner_results.build()

    taken = owner_study.wire_files(desk, *files, results.margin)
    shown = [listed, desk.study, *area.shown]
    opened = gr.on(
        [enter.click, password.submit],
        say(_opener(context, lock)),
        password,
        [unlocked, password, area.address, gate, inside, results.timer],
        trigger_mode="multiple",
        **ANSWER,
    )
    changes = [desk.on(done.success, look, [desk.study], shown) for done in (opened, made, *area.changes, *taken)] + [
        desk.on(desk.study.input, look, [desk.study], shown)
    ]
    owner_results.wire(desk, results, changes)
    for another in (desk.study.input, made.success):
        another(lambda: "", None, area.link, **LIVE)
    leave.click(lambda: 0.0, None, unlocked, **ANSWER).success(None, None, None, js=RELOAD)
    tabs.select(_watch, unlocked, results.timer, queue=False, show_progress="hidden", **PRIVATE)


def look(store: "Store", study: str | None) -> list:
    """All studies and the chosen one, or the first, as the store has them now."""
    found = store.studies()
    names = [one.name for one in found]
    study = study if study in names else next(iter(names), None)
    return [owner_html.studies(found), gr.Dropdown(choices=names, value=study), *owner_study.look(store, study)]


def _opener(context: Context, lock: Lock) -> Callable:
    def unlock(given: str, request: gr.Request) -> tuple:
        if not lock.admits(given):
            raise InputError("That is not the owner's password.")
        where = get_root_url(request.request, request.request.url.path, context.settings.root_path)
        return unlocked_until(), "", where, gr.Column(visible=False), gr.Column(visible=True), gr.Timer(active=True)

    return unlock


def _watch(unlocked: float, chosen: gr.SelectData) -> gr.Timer:
    """New answers are looked for only while the tab is shown and unlocked."""
    return gr.Timer(active=is_unlocked(unlocked) and chosen.value == TITLE)

"""The page: header with the notice, the tabs, and how to launch it."""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.middleware import Middleware

from dermaflux.settings import Settings, names
from dermaflux.slot import GeneratorSlot
from dermaflux.ui import about, api, classify, draw, form, gallery, llama, model, owner, reader, review, sweep, theme
from dermaflux.ui.context import NOTICE, Context
from dermaflux.ui.folders import DELETE_EVERY, DELETE_OLDER
from dermaflux.ui.gate import Gate, log_out

if TYPE_CHECKING:
    from dermaflux.classifier import Classifier
    from dermaflux.feedback import Ratings
    from dermaflux.study.store import Store

HEADER = f"""
<header class="df-header"><h1>DermaFlux</h1><p class="df-notice" role="note">{NOTICE}</p></header>
"""


def build_app(
    settings: Settings,
    generator: GeneratorSlot,
    classifier: "Callable[[], Classifier]",
    ratings: "Callable[[], Ratings] | None" = None,
    studies: "Callable[[], Store] | None" = None,
) -> gr.Blocks:
    """The whole page; `generator`, `classifier`, `ratings` and `studies` are called when first needed.

    Without `ratings` visitors are not asked to rate images; the tab of `studies` is for whoever has their password.
    """
    context = Context(settings, generator, classifier, ratings, studies)
    app = gr.Blocks(
        title="DermaFlux",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(DELETE_EVERY, DELETE_OLDER),
    )
    with app:
        gr.HTML(HEADER, elem_id="df-header")
        if settings.login:
            with gr.Row():
                log_out(app)
        with gr.Tabs(elem_id="df-tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Draw", id="draw"):
                described, area, images, chooser = _draw_tab(context)
            with gr.Tab("Compare & sweep", id="sweep") as swept:
                suited = [described.suited, area.suited, *sweep.build(context, described, swept)]
            with gr.Tab("Classify", id="classify"):
                judged = classify.build(context)
                llama.build_describer(context, judged.image)
            if settings.owner_password and studies:
                with gr.Tab(reader.TITLE, id="review"):
                    reader.build()
                with gr.Tab(owner.TITLE, id="study"):
                    owner.build(context, tabs)
            with gr.Tab("About", id="about") as told:
                suited.append(about.build(context, told))
        if chooser:
            model.wire(context, app, chooser, suited)
        gallery.carry(area, images, tabs, judged)
        api.build(context)
    return app.queue(max_size=settings.queue_length)


def _draw_tab(context: Context) -> tuple[form.Form, draw.DrawArea, gallery.GalleryArea, model.Chooser | None]:
    with gr.Row(elem_classes="df-main", equal_height=False):
        with gr.Column(scale=5, min_width=320):
            described = form.build(context)
            llama.build_writer(context, described)
            chooser = model.build(context)
        with gr.Column(scale=6, min_width=320, elem_classes="df-side"):
            area = draw.build(context, described)
    images = gallery.build(context, described)
    draw.wire(context, described, area, images.gallery, images.vary, gallery.shown(area, images))
    gallery.wire(context, described, area, images)
    return described, area, images, chooser


def launch_options(settings: Settings, studies: "Callable[[], Store] | None" = None) -> dict[str, Any]:
    """The keyword arguments of Blocks.launch for this page; with `studies`, readers find theirs beside it."""
    return dict(
        theme=theme.theme(),
        css=theme.style(),
        run_history=False,
        ssr_mode=False,
        footer_links=["api", "settings"],
        auth=_guard(settings.password) if settings.password else None,
        auth_message="This page asks for a password. Any name will do.",
        root_path=settings.root_path or None,
        server_name=settings.host,
        server_port=settings.port or None,
        max_file_size=settings.max_upload_mb * 2**20,
        mcp_server=settings.mcp,
        share=settings.share,
        app_kwargs=dict(
            routes=review.routes(studies) if studies else [],
            middleware=[Middleware(Gate, allowed=names(settings.allowed))] if settings.login else [],
        ),
    )


def _guard(password: str) -> Callable[[str, str], bool]:
    """Whether a visitor, by whatever name, gives `password`; in the same time for any that is wrong."""
    return lambda name, given: secrets.compare_digest(given.encode(), password.encode())

"""The reader's page of a study: by link, beside the main page, it shows nothing else than the review.

It is a plain page of its own, without gradio's, so that one case fits on a screen and the keyboard does everything: a
page, its scripts, and verbs that take and give JSON. The token of the link comes with each request in a header, never
in a cookie; what a picture is called or where it comes from is in no answer.
"""

import json
import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Template
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dermaflux.errors import DermaFluxError, InputError
from dermaflux.lesion import COLOURS, LABELS, MAX_ASYMMETRY, MAX_BORDER, STRUCTURES
from dermaflux.ui.context import UNEXPECTED

if TYPE_CHECKING:
    from dermaflux.study.session import ReaderSession
    from dermaflux.study.store import Store

MAX_BODY = 64 * 1024
FILES = {
    "review.css": "text/css",
    "review.js": "text/javascript",
    "review_case.js": "text/javascript",
    "review_dom.js": "text/javascript",
    "review_picture.js": "text/javascript",
    "review_screens.js": "text/javascript",
}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src blob:; connect-src 'self'"
CARE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"{POLICY}; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
"""Headers of every answer: nothing is kept on the way, no script but the page's own runs, the link is told nobody."""

log = logging.getLogger("dermaflux")


def routes(studies: "Callable[[], Store]") -> list[Route]:
    """The routes of the reader's page; `studies` gives the store."""

    def page(_: Request) -> Response:
        return HTMLResponse(_page(), headers=CARE)

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in FILES:
            return Response(status_code=404)
        return FileResponse(_beside(name), media_type=FILES[name], headers=CARE | {"Cache-Control": "no-cache"})

    async def call(request: Request) -> Response:
        verb, body = VERBS.get(request.path_params["verb"]), await _body(request)
        if verb is None:
            return _refused("This page does not know that request; reload it.", 404)
        if body is None:
            return _refused("The request is not in the form that the page sends; reload it.", 400)
        return await run_in_threadpool(_answer, studies, request.headers.get("x-reader", ""), verb, body)

    return [
        Route("/review", page),
        Route("/review/files/{name}", file),
        Route("/review/{verb}", call, methods=["POST"]),
    ]


def _answer(studies: "Callable[[], Store]", token: str, verb: "Verb", given: Mapping) -> Response:
    try:
        reader = studies().reader(token)
    except InputError as error:
        return _refused(str(error), 403)
    except Exception as error:
        return _failed(error)
    try:
        found = verb(reader, given)
    except InputError as error:
        return _refused(str(error), 400)
    except Exception as error:
        return _failed(error)
    return found if isinstance(found, Response) else JSONResponse(found, headers=CARE)


def _refused(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status, headers=CARE)


def _failed(error: Exception) -> Response:
    if isinstance(error, DermaFluxError):
        return _refused(str(error), 503)
    log.error("A request of a reader failed", exc_info=error)
    return _refused(UNEXPECTED, 500)


async def _body(request: Request) -> Mapping | None:
    """The JSON object of a request; None for anything else, and for more than MAX_BODY bytes."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Mapping) else None


def state(reader: "ReaderSession", _: Mapping | None = None) -> dict[str, object]:
    """What to show a reader: the questions about them, the next case, or that all is done.

    How many answers there are in all is not told before stage 2, as it would give away the share of synthetic pictures.
    """
    if not reader.consented:
        return {"screen": "consent", "reader": reader.pseudonym, "study": reader.study}
    step = reader.next()
    if step is None:
        return {"screen": "end", "reader": reader.pseudonym}
    asked = {name: on for name, on in vars(step.questions).items() if name != "match"}
    shown = {name: value for name, value in vars(step).items() if name not in ("questions", "done", "total")}
    return {"screen": "case", "reader": reader.pseudonym, "step": shown | {"questions": asked}}


def consent(reader: "ReaderSession", given: Mapping) -> dict[str, object]:
    """Store consent and background; what to show next."""
    reader.consent(given.get("values"))
    return state(reader)


def picture(reader: "ReaderSession", given: Mapping) -> Response:
    """The picture of a case. It is not compressed on the way: its length there would tell how smooth it is."""
    data = reader.picture(given.get("showing"))
    return Response(data, media_type="image/png", headers=CARE | {"Content-Encoding": "identity"})


def tick(reader: "ReaderSession", given: Mapping) -> dict[str, object]:
    """Add to the time on the screen."""
    reader.tick(given.get("showing"), given.get("seconds"))
    return {}


def answer(reader: "ReaderSession", given: Mapping) -> dict[str, object]:
    """Store an answer of stage 1, with time and the wish to leave the picture out, or of stage 2; what comes next."""
    showing, values = given.get("showing"), given.get("values")
    if given.get("stage") == 2:
        reader.answer_second(showing, values)
        return state(reader)
    reader.tick(showing, given.get("seconds"))
    reader.answer_first(showing, values)
    if given.get("left_out") is True:
        reader.flag(showing)
    return state(reader)


def feedback(reader: "ReaderSession", given: Mapping) -> dict[str, object]:
    """What a practice case was."""
    return vars(reader.feedback(given.get("showing")))


def withdraw(reader: "ReaderSession", _: Mapping) -> dict[str, object]:
    """Delete the reader's answers."""
    reader.withdraw()
    return {"screen": "gone"}


Verb = Callable[["ReaderSession", Mapping], object]
VERBS: dict[str, Verb] = {one.__name__: one for one in (state, consent, picture, tick, answer, feedback, withdraw)}


@cache
def _page() -> str:
    """The page, with the vocabularies of the answers in it."""
    from dermaflux.study import answers

    vocabulary = {
        "roles": answers.ROLES,
        "diagnoses": answers.SAID_DIAGNOSES,
        "labels": LABELS,
        "asymmetry": MAX_ASYMMETRY,
        "border": MAX_BORDER,
        "colours": [[colour.name, colour.swatch] for colour in COLOURS.values()],
        "structures": STRUCTURES,
        "artefacts": answers.ARTEFACTS,
        "matches": answers.MATCHES,
        "matched": list(answers.MATCHED),
        "maxYears": answers.MAX_YEARS,
        "maxComment": answers.MAX_COMMENT,
        "maxMarks": answers.MAX_BOXES,
    }
    return Template(_beside("review.html").read_text(encoding="utf-8"), autoescape=True).render(vocabulary=vocabulary)


def _beside(name: str) -> Path:
    return Path(__file__).with_name(name)

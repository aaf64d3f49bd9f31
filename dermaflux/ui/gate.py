"""The gate before a page that asks for a Hugging Face login: nothing behind it is answered without one.

gradio logs visitors in (its routes /login/huggingface, /login/callback and /logout) and keeps who they are in a signed
cookie; it guards nothing by that. This does, before gradio sees a request: page, files, API and tools alike.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from html import escape

import gradio as gr
from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/login/huggingface", "/login/callback", "/logout", "/theme.css", "/gradio_api/startup-events")
"""Answered without a login: what logs in, and what gradio asks itself at the start."""
OPEN_BELOW = ("/review", "/static/fonts/")
"""And the readers' page, whose link is its key, with its fonts."""
LOG_IN = "Log in with your Hugging Face account to use this page."
REFUSED = "You are logged in as {name}, who may not use this page. Ask its owner, or log in with another account."
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>DermaFlux</title>
<style>body {{ font: 17px/1.5 system-ui, sans-serif; max-width: 34em; margin: 12vh auto; padding: 0 20px; }}
a {{ display: inline-block; padding: 12px 20px; border-radius: 8px; background: #0f5f57; color: #fff;
text-decoration: none; }} a:hover {{ background: #0b4a44; }} a:focus-visible {{ outline: 3px solid #57b5aa; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #14191c; color: #e8ecee; }} }}</style></head>
<body><main><h1>DermaFlux</h1><p>Research demonstration. Not a medical device; not for diagnosis.</p>
<p role="status">{sentence}</p><p><a id="go" href="{way}" target="_blank">{label}</a></p></main>
<script>if (window.self === window.top) document.getElementById("go").target = "_self";</script></body></html>"""


@dataclass(frozen=True)
class User:
    """A visitor who is logged in: the account's name, and those of its organisations as in their addresses, in lower
    case. What an organisation calls itself beside that does not count: anybody may choose it."""

    name: str
    organisations: frozenset[str]


def user_of(scope: Scope) -> User | None:
    """Who is logged in by the session of a request, or None."""
    login = (scope.get("session") or {}).get("oauth_info") or {}
    found = login.get("userinfo") or {}
    if not found.get("preferred_username") or login.get("expires_at", 0) < time.time():
        return None
    organisations = (one.get("preferred_username") for one in found.get("orgs") or ())
    return User(found["preferred_username"].lower(), frozenset(name.lower() for name in organisations if name))


def log_out(app: gr.Blocks) -> None:
    """Lay out and connect the button by which a visitor leaves; it says who is logged in.

    gradio sets its login up for a page with a LoginButton only, so there is one, out of sight and without its label,
    which fails for members of organisations (gradio 6.31).
    """
    gr.LoginButton(visible=False).load_event_to_attach = None
    button = gr.Button("Log out", link="/logout", size="sm", scale=0, min_width=160, elem_id="df-logout")

    def named(request: gr.Request) -> gr.Button:
        user = user_of(request.request.scope)
        return gr.Button(f"Log out ({user.name})" if user else "Log out")

    app.load(named, None, button, queue=False, show_progress="hidden", api_visibility="private")


class Gate:
    """An ASGI middleware that lets through who is logged in and, where names are given, is or is in one of them."""

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()):
        """allowed: names of accounts and organisations; any account where there are none."""
        self.app, self._allowed = app, {name.lower() for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or _open(scope):
            return await self.app(scope, receive, send)
        user = user_of(scope)
        if user and (not self._allowed or self._allowed & {user.name, *user.organisations}):
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        await _refusal(scope, user)(scope, receive, send)


def _open(scope: Scope) -> bool:
    path = scope["path"]
    return path in OPEN or any(path == top or path.startswith(top.rstrip("/") + "/") for top in OPEN_BELOW)


def _refusal(scope: Scope, user: User | None):
    sentence = REFUSED.format(name=user.name) if user else LOG_IN
    if scope["path"] != "/":
        return JSONResponse({"error": sentence}, 401 if user is None else 403)
    way, label = ("/login/huggingface", "Log in with Hugging Face") if user is None else ("/logout", "Log out")
    page = PAGE.format(sentence=escape(sentence), way=way, label=label)
    return HTMLResponse(page, 200 if user is None else 403, headers={"Cache-Control": "no-store"})

"""The login: whom the gate lets through, what it says to others, and a whole login at a provider in the Hub's place."""

import json
import time
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dermaflux.errors import InputError
from dermaflux.settings import Settings, check_login, from_env
from dermaflux.ui.gate import Gate

SPACE = {"SYSTEM": "spaces", "SPACE_ID": "o/n"}
OAUTH = dict(OAUTH_CLIENT_ID="dermaflux", OAUTH_CLIENT_SECRET="s" * 32, OAUTH_SCOPES="openid profile")
USER = {
    "sub": "1",
    "name": "Ada L.",
    "preferred_username": "Ada",
    "profile": "https://huggingface.co/Ada",
    "picture": "https://huggingface.co/ada.png",
    "orgs": [{"sub": "2", "name": "Famous Clinic", "preferred_username": "Small-Clinic"}],
}


class Session:
    """Stands in for gradio's session: what a test says in a header."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        given = dict(scope["headers"]).get(b"x-session", b"{}")
        await self.app(scope | {"session": json.loads(given)}, receive, send)


def guarded(*allowed: str) -> TestClient:
    behind = [Route("/{path:path}", lambda request: PlainTextResponse("behind"), methods=["GET", "POST"])]
    gate = [Middleware(Session), Middleware(Gate, allowed=allowed)]
    return TestClient(Starlette(routes=behind, middleware=gate))


def session(expires_in: float = 60, **changes) -> dict[str, str]:
    info = {"userinfo": USER | changes, "expires_at": time.time() + expires_in}
    return {"x-session": json.dumps({"oauth_info": info})}


PATHS = ["/config", "/gradio_api/info", "/gradio_api/queue/join", "/gradio_api/file=/tmp/x", "/gradio_api/mcp/"]
PATHS += ["/reviewer", "/login", "/login/huggingface/x", "/%2e%2e/config", "/theme.css/../config"]


@pytest.mark.parametrize("path", PATHS)
def test_without_a_login_nothing_is_answered(path):
    for answer in (guarded().get(path), guarded().post(path)):
        assert answer.status_code == 401 and "Log in with your Hugging Face account" in answer.json()["error"]


def test_the_page_itself_says_what_to_do():
    answer = guarded().get("/")
    assert answer.status_code == 200 and "Log in with your Hugging Face account to use this page." in answer.text
    assert 'href="/login/huggingface"' in answer.text and "behind" not in answer.text


@pytest.mark.parametrize("path", ["/login/huggingface", "/login/callback", "/logout", "/review", "/review/state"])
def test_the_way_in_and_the_readers_page_stay_open(path):
    assert guarded("clinic").get(path).text == "behind"


@pytest.mark.parametrize("allowed", [(), ("ada",), ("x", "ADA"), ("small-clinic",)])
def test_who_is_logged_in_and_on_the_list_or_in_an_organisation_on_it_is_let_through(allowed):
    assert guarded(*allowed).get("/config", headers=session()).text == "behind"


@pytest.mark.parametrize("allowed", ["somebody", "famous clinic", "Ada L.", ""])
def test_others_are_told_and_what_an_organisation_calls_itself_does_not_count(allowed):
    gate = guarded(allowed)
    assert gate.get("/config", headers=session()).status_code == 403
    page = gate.get("/", headers=session())
    assert page.status_code == 403 and "logged in as ada, who may not use this page" in page.text


@pytest.mark.parametrize("headers", [session(expires_in=-1), session(preferred_username=""), {"x-session": "{}"}])
def test_a_login_that_has_expired_or_names_nobody_is_none(headers):
    assert guarded().get("/config", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        (["--login", "hf"], {}, "works on a Space of Hugging Face only; elsewhere it would be imitated"),
        (["--login", "hf"], SPACE, "needs “hf_oauth: true”"),
        (["--login", "hf"], SPACE | OAUTH | {"OAUTH_CLIENT_SECRET": ""}, "needs “hf_oauth: true”"),
        (["--login", "hf", "--password", "x"], SPACE, "exclude each other"),
        (["--login", "hf", "--mcp"], SPACE, "a tool has no way to log in"),
        (["--allowed", "clinic"], SPACE, "--allowed needs --login hf"),
    ],
)
def test_the_page_does_not_start_with_a_login_that_protects_nothing(argv, environ, said):
    with pytest.raises(InputError, match=said):
        check_login(from_env(argv, environ), environ)


def test_a_page_without_a_login_starts_anywhere():
    check_login(Settings(), {})
    check_login(Settings(password="x"), SPACE)


@pytest.fixture
def provider():
    """The Hub's place: it logs in USER at once, and signs who that is."""
    pytest.importorskip("authlib")
    pytest.importorskip("itsdangerous")
    import oidc_provider

    with oidc_provider.serving(USER) as address:
        yield address


def test_a_whole_login_opens_the_page_and_a_logout_closes_it(provider, monkeypatch):
    for name, value in (OAUTH | {"OPENID_PROVIDER_URL": provider}).items():
        monkeypatch.setattr(f"gradio.oauth.{name}", value)
    monkeypatch.setattr("gradio.oauth.get_space", lambda: "o/n")
    with gr.Blocks(analytics_enabled=False) as app:
        gr.LoginButton()
    guard = dict(middleware=[Middleware(Gate, allowed=("small-clinic",))])
    _, url, _ = app.launch(server_port=None, prevent_thread_lock=True, quiet=True, ssr_mode=False, app_kwargs=guard)
    try:
        assert httpx.get(url + "config").status_code == 401 and "Log in" in httpx.get(url).text
        cookies = log_in(url)
        assert httpx.get(url + "config", headers=cookies).status_code == 200
        forged = {"Cookie": cookies["Cookie"][:-4] + "AAAA"}
        assert httpx.get(url + "config", headers=forged).status_code == 401
        left = httpx.get(url + "logout", headers=cookies)
        assert httpx.get(url + "config", headers=kept(left)).status_code == 401
    finally:
        app.close()


def log_in(url: str) -> dict[str, str]:
    """What a browser does after a click on the login; its cookie, which is for https, as a header."""
    asked = httpx.get(url + "login/huggingface")
    back = httpx.get(asked.headers["location"]).headers["location"]
    assert parse_qs(urlsplit(back).query)["code"] == ["granted"]
    found = httpx.get(back, headers=kept(asked))
    assert found.is_redirect and found.headers["location"].startswith("/"), found.text
    return kept(found)


def kept(answer: httpx.Response) -> dict[str, str]:
    given = answer.headers.get("set-cookie", "").split(";")[0]
    return {"Cookie": given} if given else {}

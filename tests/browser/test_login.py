"""A whole login in a browser: app.py as a Space runs it, a provider in the Hub's place, HTTPS in front."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytest.importorskip("authlib")
pytest.importorskip("itsdangerous")

import oidc_provider
import tls_front
from conftest import PATIENCE_S, ROOT, SCREENSHOTS, answers, until

USER = {
    "sub": "1",
    "name": "Ada L.",
    "preferred_username": "ada",
    "profile": "https://huggingface.co/ada",
    "picture": "",
    "orgs": [{"sub": "2", "name": "Clinic", "preferred_username": "clinic"}],
}
SIZES = {"desk": (1440, 900), "phone": (390, 844)}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module", params=["clinic", "others"])
def guarded(request, tmp_path_factory):
    """The address of the page, and who may see it: the organisation of the visitor, or another."""
    folder, port, front = tmp_path_factory.mktemp("login"), free_port(), free_port()
    with oidc_provider.serving(USER) as provider, tls_front.serving(folder, front, port):
        environ = os.environ | {
            "SYSTEM": "spaces",
            "SPACE_ID": "o/n",
            "SPACE_HOST": f"127.0.0.1:{front}",
            "OAUTH_CLIENT_ID": "dermaflux",
            "OAUTH_CLIENT_SECRET": "s" * 32,
            "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": provider,
            "DERMAFLUX_LOGIN": "hf",
            "DERMAFLUX_ALLOWED": request.param,
            "DERMAFLUX_PORT": str(port),
            "DERMAFLUX_DATA_DIR": str(folder),
        }
        log = folder / "log"
        with log.open("w") as output:
            server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=output, stderr=output)
        until(lambda: answers(f"http://127.0.0.1:{port}/") or server.poll() is not None, log.read_text)
        yield f"https://127.0.0.1:{front}/", request.param, log
        server.terminate()
        server.wait(PATIENCE_S)


def shoot(page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=Path(SCREENSHOTS, f"login-{name}.png"))


@pytest.mark.parametrize("device", SIZES)
def test_a_visitor_logs_in_uses_the_page_and_logs_out(guarded, browser, device):
    address, allowed, log = guarded
    width, height = SIZES[device]
    context = browser.new_context(viewport={"width": width, "height": height}, ignore_https_errors=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    fits = lambda: page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    try:
        page.goto(address)
        expect(page.get_by_role("status")).to_have_text("Log in with your Hugging Face account to use this page.")
        assert fits()
        shoot(page, f"{device}-before")
        page.get_by_role("link", name="Log in with Hugging Face").click()
        if allowed != "clinic":
            expect(page.get_by_role("status")).to_contain_text("You are logged in as ada, who may not use this page.")
            shoot(page, f"{device}-refused")
            page.get_by_role("link", name="Log out").click()
        else:
            expect(page.locator("#df-draw")).to_be_enabled()
            out = page.locator("#df-logout")
            expect(out).to_have_text(re.compile(r"Log out \(ada\)"))
            assert fits()
            shoot(page, f"{device}-after")
            page.locator("#df-draw").click()
            expect(page.locator("#df-status")).to_contain_text("Done")
            out.click()
        expect(page.get_by_role("status")).to_have_text("Log in with your Hugging Face account to use this page.")
    finally:
        context.close()
    frames = re.findall(r'^ +File "(.+?)", line', log.read_text(), re.MULTILINE)
    # asyncio itself may be heard when a loop is collected
    assert all("/asyncio/" in frame or frame.endswith("/selectors.py") for frame in frames), log.read_text()

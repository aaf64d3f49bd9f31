"""A small study of the embedded example images and of photographs of phantoms, and the page that serves it."""

from collections.abc import Callable
from pathlib import Path

from sample_pools import real

from dermaflux.models import MODELS
from dermaflux.settings import Settings
from dermaflux.slot import Choice, GeneratorSlot
from dermaflux.study import pictures
from dermaflux.study.protocol import Protocol
from dermaflux.study.store import Store
from dermaflux.ui.shell import build_app, launch_options

EXAMPLES = Path(__file__).parent.parent / "assets" / "examples"
NAME, PASSWORD = "Pilot", "correct horse"


def create(store: Store, folder: Path, cases: int = 4, name: str = NAME, **changes) -> str:
    """A study in `store` that is not open yet; its photographs lie in `folder`."""
    protocol = Protocol(cases, **{"repeats": 0.0} | changes)
    drawn = pictures.synthetic_pool(EXAMPLES)
    photographs = pictures.real_pool(real(folder / f"{name}-photographs", 6))
    return store.create(name, pictures.prepare(drawn, photographs, protocol), protocol, PASSWORD)


def invited(store: Store, folder: Path, readers: int = 1, **changes) -> list[str]:
    """The tokens of readers of an open study."""
    name = create(store, folder, **changes)
    store.open(name)
    return [token for _, token in store.invite(name, readers)]


def serve(studies: Callable[[], Store], **changes):
    """The app that serves the page without reading any model, and its address."""
    settings = Settings(port=0, **changes)
    slot = GeneratorSlot(Choice(MODELS["nano"], "auto"), lambda choice: None, lambda choice: None)
    app = build_app(settings, slot, lambda: None, studies=studies)
    _, url, _ = app.launch(**launch_options(settings, studies), prevent_thread_lock=True, quiet=True)
    return app, url

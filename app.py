"""The front door: settings, page, launch; the models are read in the background once the page answers.

On ZeroGPU, where a Space is lent a card for a call at a time, they are read before the page is served, and each drawing
runs in another process that has the card: its previews come back as they are made, and Stop ends it.
"""

import errno
import logging
import signal
import socket
import sys
import threading
from dataclasses import replace
from functools import partial

try:
    import spaces  # before torch, which it prepares
except ImportError:
    spaces = None

from dermaflux.errors import DermaFluxError, InputError, ModelUnavailable
from dermaflux.memory import AUTO
from dermaflux.models import SamplingOptions
from dermaflux.settings import Settings, check_login, from_env
from dermaflux.slot import Choice, GeneratorSlot, once

FLUX1 = 11.9e9
"""Parameters of the transformer of FLUX.1."""

log = logging.getLogger("dermaflux")

ZERO_GPU = bool(spaces and spaces.config.Config.zero_gpu)
"""Whether this is a Space that is lent a card for a call at a time."""


def load_generator(settings: Settings, choice: Choice):
    """The generator of `choice` on the device that `settings` name. Raises ModelUnavailable."""
    from dermaflux.generator import Generator

    compiled = settings.compile and not ZERO_GPU
    generator = Generator.from_spec(choice.spec, settings.torch_device, choice.memory, compiled)
    if spaces and generator.pipe.device.type == "cuda":
        generator.sample = with_lent_card(generator.sample, generator.pipe.transformer.num_parameters() / FLUX1)
    return generator


def fetch_generator(settings: Settings, choice: Choice, in_use):
    """Download what `choice` needs, telling how far it is, unless it would not fit in place of what is in use.

    Raises ModelUnavailable.
    """
    from dermaflux import downloads, memory

    free = memory.Free.now(settings.torch_device or memory.best_device())
    free = free.with_released(in_use.plan if in_use else None)
    plan = memory.plan(choice.spec, free, choice.memory)
    if choice.memory != settings.memory and not plan.fits(free):
        raise ModelUnavailable(f"{choice.spec.title} does not fit. {plan.sentence} That is more than is free.")
    yield from downloads.fetching(choice.spec)


def with_lent_card(sample, share: float = 1.0):
    """`sample` of a Generator, to be run where ZeroGPU lends a card; the same anywhere else.

    share: the size of its transformer as a share of that of FLUX.1.
    """
    from dermaflux.ui.context import sentence

    @spaces.GPU(duration=partial(card_seconds, share))
    def drawn(text: str, options: SamplingOptions, **more):
        try:
            yield from sample(text, options, **more)
        except DermaFluxError as error:
            raise sentence(error) from error  # of other errors only the kind comes back from the other process

    return drawn


def card_seconds(share: float, text: str, options: SamplingOptions, **_) -> int:
    """For how long to ask for a card, generously: a visitor pays for what is used, but is refused what is asked for if
    it is more than what is left of the day's quota. share: see `with_lent_card`."""
    from dermaflux.contrast import AWAY_FROM

    ways = 1 + (options.true_cfg > 1) + (len(AWAY_FROM) if options.contrast else 0)
    passes = len(options.seeds) * options.candidates * options.steps * ways
    return round(15 + passes * max(0.02, 0.4 * share * max(1, (options.size / 512) ** 2)))


def check_address(host: str, port: int) -> None:
    """Refuse to start where nothing can be served at `host` and `port`. Raises InputError."""
    try:
        family, *_, address = min(socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM))
        socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            said = f"Port {port} is in use, perhaps by this page, started before. Give another by --port."
            raise InputError(said) from None
        why = getattr(error, "strerror", None) or error
        said = f"The page cannot be served at {host}, port {port}: {why}. Give others by --host and --port."
        raise InputError(said) from None


def one_model_only(settings: Settings) -> Settings:
    """`settings` for ZeroGPU, where nothing can be placed on a card once the page is served."""
    if settings.models not in ("", AUTO) or settings.loras or settings.writer or settings.describer:
        log.warning("ZeroGPU serves the one model: --models, --loras, --writer and --describer are not heeded.")
    return replace(settings, models="", loras="", writer="", describer="")


def load_classifier(settings: Settings):
    """The classifier that `settings` name. Raises ModelUnavailable."""
    from dermaflux.classifier import Classifier

    return Classifier.load(settings.classifier)


def open_studies(settings: Settings):
    """The store of studies that `settings` name; where it is stands in the log. Raises InputError or DataError."""
    from gradio.utils import get_space

    from dermaflux.feedback import lasts
    from dermaflux.study.store import Store

    store = Store(settings.store)
    log.info("Studies are kept in %s", store.place)
    if get_space() and "://" not in settings.store and not lasts(settings.store):
        log.warning("A restart of the Space empties it; name a file on a mounted disk or a database by --studies.")
    return store


def open_ratings(settings: Settings):
    """Where visitors' ratings are kept, which stands in the log. Raises DataError."""
    from gradio.utils import get_space

    from dermaflux import feedback

    ratings = feedback.open_ratings(settings.ratings, settings.data_dir / "feedback")
    log.info("Ratings are kept in %s", ratings.place)
    if get_space() and not feedback.lasts(settings.ratings):
        log.warning("A restart of the Space empties that folder; name a mounted one or a dataset by --feedback.")
    return ratings


def main() -> None:
    """Serve the page until interrupted; a bad setting ends with a sentence and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "alembic", "huggingface_hub"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = from_env()
        check_login(settings)
        check_address(settings.host, settings.port)
        settings = one_model_only(settings) if ZERO_GPU else settings
    except DermaFluxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    from dermaflux.ui.shell import build_app, launch_options

    first = Choice(settings.offered[0], settings.memory)
    generator = GeneratorSlot(
        first,
        lambda choice: load_generator(settings, choice),
        lambda choice: fetch_generator(settings, choice, generator.loaded),
    )
    classifier = once(lambda: load_classifier(settings))
    if ZERO_GPU:
        warm(generator)
    studies = once(lambda: open_studies(settings))
    ratings = once(lambda: open_ratings(settings)) if settings.ratings else None
    app = build_app(settings, generator, classifier, ratings, studies)
    app.launch(**launch_options(settings, studies), prevent_thread_lock=True)
    loads = (*filter(None, (ratings,)), studies, generator, lambda: explain_once(classifier()))
    threading.Thread(target=warm, args=loads, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that ratings that wait are sent, and visitors' files go
    app.block_thread()


def explain_once(classifier) -> None:
    """Explain a plain image, so that the first visitor does not wait for the imports that it takes."""
    from PIL import Image

    from dermaflux.saliency import explain

    explain(classifier, Image.new("RGB", (64, 64), "tan"))


def warm(*loads) -> None:
    """Load what is needed before anyone asks; what cannot be loaded says so when it is asked for."""
    for load in loads:
        try:
            load()
        except DermaFluxError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("What the page needs could not be loaded")


if __name__ == "__main__":
    main()

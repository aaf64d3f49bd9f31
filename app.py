"""The front door: settings, page, launch; the models are read in the background once the page answers."""

import logging
import sys
import threading

from dermaflux.errors import DermaFluxError
from dermaflux.settings import Settings, from_env

log = logging.getLogger("dermaflux")


def load_generator(settings: Settings):
    """The generator that `settings` name. Raises ModelUnavailable."""
    from dermaflux.generator import Generator

    return Generator.load(settings.model, settings.lora, settings.torch_device, settings.memory)


def load_classifier(settings: Settings):
    """The classifier that `settings` name. Raises ModelUnavailable."""
    from dermaflux.classifier import Classifier

    return Classifier.load(settings.classifier)


def main() -> None:
    """Serve the page until interrupted; a bad setting ends with a sentence and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = from_env()
    except DermaFluxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    from dermaflux.ui.shell import build_app, launch_options, once

    generator, classifier = once(lambda: load_generator(settings)), once(lambda: load_classifier(settings))
    app = build_app(settings, generator, classifier)
    app.launch(**launch_options(settings), prevent_thread_lock=True)
    threading.Thread(target=warm, args=(generator, lambda: explain_once(classifier())), daemon=True).start()
    app.block_thread()


def explain_once(classifier) -> None:
    """Explain a plain image, so that the first visitor does not wait for the imports that it takes."""
    from PIL import Image

    from dermaflux.saliency import explain

    explain(classifier, Image.new("RGB", (64, 64), "tan"))


def warm(*loads) -> None:
    """Load the models before anyone asks; one that cannot be loaded says so when it is asked for."""
    for load in loads:
        try:
            load()
        except DermaFluxError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("A model could not be loaded")


if __name__ == "__main__":
    main()

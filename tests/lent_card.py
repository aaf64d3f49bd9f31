"""A script: draw through app.py as ZeroGPU does, in a forked process that answers one item at a time.

Run by `test_app.py` in an interpreter of its own; prints what the visitor's side of the queue sees, as JSON. Usage:
python lent_card.py PIPELINE_FOLDER
"""

import hashlib
import json
import multiprocessing
import os
import pickle
import sys
import types
from pathlib import Path

CONTEXT = multiprocessing.get_context("fork")


def GPU(duration):
    """Stands in for spaces.GPU: what goes in and comes out is pickled, and closing the stream stops the other side."""

    def decorate(task):
        def handler(*args, **kwargs):
            asked.append(duration(*args, **kwargs))
            sent, answers, stopped = pickle.dumps((args, kwargs)), CONTEXT.Queue(maxsize=4), CONTEXT.Event()
            process = CONTEXT.Process(target=work, args=(task, sent, answers, stopped), daemon=True)
            process.start()
            processes.append(process)
            answer = True
            try:
                while (answer := answers.get(timeout=60)) is not None:
                    if isinstance(answer, Exception):
                        raise answer
                    yield answer
            finally:
                stopped.set()
                # The process ends once its answers are read, those that it drew ahead of the stop too.
                while answer is not None:
                    answer = answers.get(timeout=60)
                    unseen.append(answer)

        return handler

    return decorate


def work(task, sent, answers, stopped):
    args, kwargs = pickle.loads(sent)
    stream = task(*args, **kwargs)
    try:
        for item in stream:
            if stopped.is_set():
                stream.close()
                break
            answers.put(item)
    except Exception as error:
        answers.put(error)
    answers.put(None)


asked, processes, unseen = [], [], []
sys.modules["spaces"] = types.SimpleNamespace(
    GPU=GPU, config=types.SimpleNamespace(Config=types.SimpleNamespace(zero_gpu=True))
)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import app  # noqa: E402
from dermaflux.errors import ModelUnavailable  # noqa: E402
from dermaflux.generator import Generator, Sample  # noqa: E402
from dermaflux.models import SamplingOptions, find_model  # noqa: E402

TEXT = "This photo depicts a malignant lesion. Its colours are red and black."


def without_memory(text, options):
    raise ModelUnavailable("The graphics card ran out of memory.")
    yield


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    spec = find_model(sys.argv[1], "none")
    generator = Generator.from_spec(spec, "cpu")
    plain, lent = generator.sample, app.with_lent_card(generator.sample)
    options = SamplingOptions.defaults(spec, steps=4, seeds=(1, 2))
    digest = lambda items: [
        hashlib.sha256(item.image.tobytes()).hexdigest() for item in items if isinstance(item, Sample)
    ]
    here = list(lent(TEXT, options))
    stopped = lent(TEXT, SamplingOptions.defaults(spec, steps=50, seeds=tuple(range(8))))
    first = next(stopped)
    stopped.close()
    unread = len(unseen)
    processes[-1].join(30)
    try:
        next(app.with_lent_card(without_memory)(TEXT, options))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(
        json.dumps(
            {
                "previews": sum(not isinstance(item, Sample) for item in here),
                "same": digest(here) == digest(plain(TEXT, options)),
                "asked": asked,
                "first step": first.step,
                "unread": unread,
                "ended": not processes[-2].is_alive(),
                "error": said,
            }
        )
    )

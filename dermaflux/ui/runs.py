"""A run: long work on the model, started and stopped by buttons, that reports to a status line until it ends."""

from collections.abc import Callable, Iterator, Sequence

import gradio as gr
from gradio.events import Dependency

from dermaflux.ui import stage
from dermaflux.ui.context import MODEL_EVENT, PRIVATE, Run, sentence

QUIET = dict(queue=False, show_progress="hidden", **PRIVATE)
ON, OFF = gr.Button(interactive=True), gr.Button(interactive=False)


def connect(
    starts: Sequence[tuple[gr.Button, Sequence]],
    stop: gr.Button,
    status: gr.HTML,
    work: Callable[..., Iterator[tuple]],
    outputs: Sequence,
    stopped: Run,
    js: str | None = None,
) -> list[Dependency]:
    """Let each button of `starts`, with its inputs, start `work`; gives the ends of runs, stopped or not.

    work: yields values of `status` and `outputs`; what it raises is said in the status line and in a toast.
    stopped: gives the values after Stop. js: a script that runs at the click.
    The first of `starts` is given back when a run ends; the others by whoever knows whether they have anything to do.
    The buttons change in the order of the run's own messages, so that a short run cannot end before it has begun, and
    after Stop only when the run is known to be cancelled, so that the next one cannot be taken for it.
    """
    buttons, going = [stop, *(button for button, _ in starts)], gr.State(False)
    idle = [False, OFF, ON, *[gr.skip()] * (len(starts) - 1)]
    still, unchanged = [gr.skip()] * len(outputs), [gr.skip()] * (1 + len(buttons))

    def run(*inputs) -> Iterator[list]:
        try:
            for values in work(*inputs):
                yield [*values, *unchanged]
            yield [gr.skip(), *still, *idle]
        except Exception as error:
            refused = sentence(error)
            gr.Warning(refused.message, title=refused.title)
            yield [stage.status(refused.message), *still, *idle]

    def settle(going: bool, *inputs) -> list:
        """A run that was stopped has not given back the buttons itself."""
        return [*stopped.fn(*inputs), *idle] if going else [*[gr.skip()] * len(stopped.outputs), *unchanged]

    waiting = [stage.status("Waiting for the model.", 0), True, ON, *[OFF] * len(starts)]
    runs = [
        button.click(lambda: waiting, None, [status, going, *buttons], js=js, **QUIET).then(
            run,
            [*inputs],
            [status, *outputs, going, *buttons],
            trigger_mode="multiple",
            show_progress="minimal",
            show_progress_on=status,
            **MODEL_EVENT,
            **PRIVATE,
        )
        for button, inputs in starts
    ]
    stop.click(None, None, None, cancels=runs, queue=False, **PRIVATE)
    settled = [settle, [going, *stopped.inputs], [*stopped.outputs, going, *buttons]]
    return [ended(*settled, **QUIET) for run in runs for ended in (run.then, run.failure)]

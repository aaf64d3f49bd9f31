"""A run: long work on the model, started and stopped by buttons, that reports to a status line until it ends."""

from collections.abc import Callable, Iterator, Sequence

import gradio as gr
from gradio.events import Dependency

from dermaflux.ui import stage
from dermaflux.ui.context import MODEL_EVENT, PRIVATE, Run, sentence

QUIET = dict(queue=False, show_progress="hidden", **PRIVATE)
WAITING, BEGUN = "waiting", "begun"
"""A run that was asked for, and one that has said something; neither is the empty text."""
ON, OFF = gr.Button(interactive=True), gr.Button(interactive=False)


TO_STOP = """() => {
  const pressed = document.activeElement, stop = document.querySelector('#ID');
  const button = stop.matches('button') ? stop : stop.querySelector('button');
  if (!pressed || pressed.tagName !== 'BUTTON') return;
  window.dfPressed = pressed;
  const wait = setInterval(() => {
    if (button.disabled) return;
    clearInterval(wait);
    if ([document.body, pressed].includes(document.activeElement)) button.focus({preventScroll: true});
  }, 50);
  setTimeout(() => clearInterval(wait), 5000);
}"""
"""Script that moves the keyboard's focus from the button that starts a run, which is off while it goes on, to Stop."""
BACK = """() => {
  const pressed = window.dfPressed, stop = document.querySelector('#ID');
  const idle = document.activeElement === document.body || stop.contains(document.activeElement);
  if (pressed && idle) setTimeout(() => pressed.focus({preventScroll: true}), 100);
  window.dfPressed = null;
}"""
"""Script that moves it back when the run has ended, if it has not been moved elsewhere."""


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
    stopped: gives the values after Stop, the first of which is the status. js: a script that runs at the click.
    The first of `starts` is given back when a run ends; the others by whoever knows whether they have anything to do.
    The buttons change in the order of the run's own messages, so that a short run cannot end before it has begun, and
    after Stop only when the run is known to be cancelled, so that the next one cannot be taken for it.
    """
    buttons, going = [stop, *(button for button, _ in starts)], gr.State("")
    idle = ["", OFF, ON, *[gr.skip()] * (len(starts) - 1)]
    still, unchanged = [gr.skip()] * len(outputs), [gr.skip()] * len(buttons)

    def run(*inputs) -> Iterator[list]:
        try:
            for values in work(*inputs):
                yield [*values, BEGUN, *unchanged]
            yield [gr.skip(), *still, *idle]
        except Exception as error:
            refused = sentence(error)
            gr.Warning(refused.message, title=refused.title)
            yield [stage.status(refused.message), *still, *idle]

    def settle(going: str, *inputs) -> list:
        """A run that was stopped has not given back the buttons itself."""
        if going == BEGUN:
            return [*stopped.fn(*inputs), *idle]
        rest = [gr.skip()] * (len(stopped.outputs) - 1)
        if going == WAITING:
            return [stage.status("Stopped before it began."), *rest, *idle]
        return [gr.skip(), *rest, gr.skip(), *unchanged]

    waiting = [stage.status("Waiting for the model.", 0), WAITING, ON, *[OFF] * len(starts)]
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
    for button, _ in starts:
        button.click(None, None, None, js=TO_STOP.replace("ID", stop.elem_id), **PRIVATE)
    stop.click(None, None, None, cancels=runs, queue=False, **PRIVATE)
    settled = [settle, [going, *stopped.inputs], [*stopped.outputs, going, *buttons]]
    ends = [ended(*settled, **QUIET) for run in runs for ended in (run.then, run.failure)]
    for end in ends:
        end.then(None, None, None, js=BACK.replace("ID", stop.elem_id), **PRIVATE)
    return ends

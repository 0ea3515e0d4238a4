"""Whether a task can be drawn here."""

from __future__ import annotations

from benchmarl.experiment import Experiment


class RenderError(RuntimeError):
    """A task cannot be drawn here; the message says why."""


def check_display(experiment: Experiment, asker: str, otherwise: str = "") -> None:
    """Check that the task draws itself, and draw a VMAS task once, so that whatever is missing is known at once.

    Other environments draw only after a reset, and a reset would change the run's random numbers. In messages ``asker``
    is the option or the command that asks for pictures, and ``otherwise`` says how to do without.

    Raises:
        RenderError: if the task cannot be drawn.
    """
    task = f"{experiment.environment_name}/{experiment.task_name}"
    if not experiment.task.has_render(experiment.test_env):
        raise RenderError(f"{asker} draws the task, and {task} has no pictures{otherwise and f': {otherwise}'}.")
    if experiment.environment_name != "vmas":
        return
    try:
        experiment.test_env.render(mode="rgb_array")
    except Exception as error:  # whatever pyglet, EGL, matplotlib or the scenario raise
        raise RenderError(
            f"{asker} draws the task, which cannot be done on this machine ({error}): provide a display or EGL, and "
            "pip install 'benchmarl_himpo[render]'"
            f"{otherwise and f', or {otherwise}'}."
        ) from error

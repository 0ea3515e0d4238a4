"""Whether a task can be drawn here."""

from __future__ import annotations

from benchmarl.experiment import Experiment


class RenderError(RuntimeError):
    """A task cannot be drawn here; the message says why."""


def check_display(experiment: Experiment, option: str) -> None:
    """Check that the task draws itself, and draw a VMAS task once, so that a missing display is known at once.

    Other environments draw only after a reset, and a reset would change the run's random numbers.

    Args:
        experiment: the experiment whose test environment will be drawn.
        option: the option that asked for it, without its value ``true``.

    Raises:
        RenderError: if the task cannot be drawn.
    """
    task = f"{experiment.environment_name}/{experiment.task_name}"
    if not experiment.task.has_render(experiment.test_env):
        raise RenderError(f"{option}=true, but {task} has no pictures: choose {option}=false.")
    if experiment.environment_name != "vmas":
        return
    try:
        experiment.test_env.render(mode="rgb_array")
    except Exception as error:  # whatever pyglet, EGL, matplotlib or the scenario raise
        raise RenderError(
            f"{option}=true, but the task cannot be drawn on this machine ({error}): "
            f"provide a display or EGL, or choose {option}=false."
        ) from error

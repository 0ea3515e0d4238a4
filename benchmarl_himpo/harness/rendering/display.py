"""Checks whether a task can be rendered on this machine."""

from __future__ import annotations

from benchmarl.experiment import Experiment


class RenderError(RuntimeError):
    """A task cannot be rendered on this machine; the message gives the reason."""


def check_display(experiment: Experiment, asker: str, otherwise: str = "") -> None:
    """Check that the task supports rendering, and render a VMAS task once to detect missing libraries.

    Other environments render only after a reset, which would change the run's random numbers. In messages ``asker`` is
    the option or command that needs rendering, and ``otherwise`` names the alternative.

    Raises:
        RenderError: if the task cannot be rendered.
    """
    task = f"{experiment.environment_name}/{experiment.task_name}"
    if not experiment.task.has_render(experiment.test_env):
        raise RenderError(f"{asker} draws the task, and {task} has no pictures{otherwise and f': {otherwise}'}.")
    if experiment.environment_name != "vmas":
        return
    try:
        experiment.test_env.render(mode="rgb_array")
    except Exception as error:  # pyglet, EGL, matplotlib or the scenario may raise anything
        raise RenderError(
            f"{asker} draws the task, which cannot be done on this machine ({error}): provide a display or EGL, and "
            "pip install 'benchmarl_himpo[render]'"
            f"{otherwise and f', or {otherwise}'}."
        ) from error

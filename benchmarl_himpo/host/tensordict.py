"""Undocumented parts of tensordict."""

from __future__ import annotations


def comes_from_interrupt(error: BaseException | None) -> bool:
    """Whether a KeyboardInterrupt is among the causes of an error.

    Needed because tensordict's context managers, such as ``to_module``, convert any exception in their block to a
    RuntimeError, also a KeyboardInterrupt. Context managers that let interrupts pass would replace this.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None

"""What is used of tensordict beyond its documentation."""

from __future__ import annotations


def comes_from_interrupt(error: BaseException | None) -> bool:
    """Tell whether a KeyboardInterrupt is among the errors that an error came from.

    Needed because tensordict's context managers, such as ``to_module``, answer any exception in their block with a
    RuntimeError, also a KeyboardInterrupt. An interrupt that passes through them would replace this.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None

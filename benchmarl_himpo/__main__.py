"""``himpo <command> ...``, the same as ``python -m benchmarl_himpo.<command> ...``."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "run": "train one algorithm on one task",
    "sweep": "run every combination of algorithms, tasks and seeds",
    "resume": "continue a run",
    "evaluate": "evaluate trained policies",
    "audit": "audit whether trained policies use their hierarchy",
    "film": "film trained policies",
    "export": "write a trained policy as a bundle that needs torch alone",
    "report": "compare finished runs",
    "regression": "compare the returns of this code with those of another commit",
    "reference_returns": "measure reference returns of random and scripted policies",
}
"""Every command and what it does."""


def main() -> None:
    """Run the command that the first argument names; its own options follow."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {command:<{width}}  {text}" for command, text in COMMANDS.items())
    usage = f"usage: himpo <command> ...\n\n{lines}\n\nhimpo <command> --help says more."
    name, *arguments = sys.argv[1:] or [""]
    if name in COMMANDS:
        sys.argv = [sys.argv[0], *arguments]
        import_module(f"benchmarl_himpo.{name}").main()
    elif name in ("-h", "--help"):
        print(usage)
    else:
        sys.exit(f"{name} is no command: choose from {', '.join(COMMANDS)}" if name else usage)


if __name__ == "__main__":
    main()

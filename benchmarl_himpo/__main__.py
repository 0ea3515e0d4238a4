"""``himpo <command> ...``, the same as ``python -m benchmarl_himpo.<command> ...``."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "run": "train one algorithm on one task",
    "sweep": "run every combination of algorithms, tasks and seeds",
    "resume": "continue a run",
    "evaluate": "evaluate trained policies",
    "export": "write a trained policy as a bundle that needs torch alone",
    "report": "compare finished runs",
    "regression": "compare the returns of this code with those of another commit",
    "anchors": "measure reference returns of random and scripted policies",
}
"""Every command and what it does."""


def main() -> None:
    """Run the command that the first argument names; its own options follow."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name not in COMMANDS:
        width = max(map(len, COMMANDS))
        lines = "\n".join(f"  {command:<{width}}  {text}" for command, text in COMMANDS.items())
        usage = f"usage: himpo <command> ...\n\n{lines}\n\nhimpo <command> --help says more."
        sys.exit(usage if name not in ("-h", "--help") else print(usage))
    sys.argv = [f"{sys.argv[0]} {name}", *sys.argv[2:]]
    import_module(f"benchmarl_himpo.harness.commands.{name}").main()


if __name__ == "__main__":
    main()

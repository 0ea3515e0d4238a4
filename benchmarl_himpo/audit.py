"""Audit whether trained policies use their hierarchy; see :mod:`benchmarl_himpo.harness.commands.audit`."""

from benchmarl_himpo.harness.commands.audit import main

if __name__ == "__main__":
    main()

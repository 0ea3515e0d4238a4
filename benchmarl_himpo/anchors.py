"""Measure reference returns; see :mod:`benchmarl_himpo.harness.commands.anchors`."""

from benchmarl_himpo.harness.commands.anchors import main

if __name__ == "__main__":
    main()

"""Export a trained run as a bundle; see :mod:`benchmarl_himpo.harness.commands.export`."""

from benchmarl_himpo.harness.commands.export import main

if __name__ == "__main__":
    main()

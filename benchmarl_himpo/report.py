"""Compare finished runs; see :mod:`benchmarl_himpo.harness.commands.report`."""

from benchmarl_himpo.harness.commands.report import main

if __name__ == "__main__":
    main()

"""Train one algorithm on one task; see :mod:`benchmarl_himpo.harness.commands.run`."""

from benchmarl_himpo.harness.commands.run import main

if __name__ == "__main__":
    main()

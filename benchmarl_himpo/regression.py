"""The regression gate; see :mod:`benchmarl_himpo.harness.commands.regression`."""

from benchmarl_himpo.harness.commands.regression import main

if __name__ == "__main__":
    main()

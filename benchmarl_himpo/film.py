"""Film trained policies; see :mod:`benchmarl_himpo.harness.commands.film`."""

from benchmarl_himpo.harness.commands.film import main

if __name__ == "__main__":
    main()

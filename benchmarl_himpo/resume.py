"""Continue a run; see :mod:`benchmarl_himpo.harness.commands.resume`."""

from benchmarl_himpo.harness.commands.resume import main

if __name__ == "__main__":
    main()

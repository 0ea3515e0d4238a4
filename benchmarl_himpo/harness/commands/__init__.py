"""The commands ``python -m benchmarl_himpo.<command>`` or ``himpo <command>``."""

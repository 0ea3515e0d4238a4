"""The commands: what is typed after ``python -m benchmarl_himpo.`` or ``himpo``."""

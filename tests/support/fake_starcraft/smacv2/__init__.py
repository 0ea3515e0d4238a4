"""A fake of SMACv2, see `env.py`."""

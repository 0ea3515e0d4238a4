"""SMAX, the StarCraft-like game of JaxMARL, as tasks: neither StarCraft II nor SMACv2."""

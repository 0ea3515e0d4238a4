"""Parallel environments of PettingZoo as tasks: from mpe2, from ``pettingzoo.sisl``, or of the user."""

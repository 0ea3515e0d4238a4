"""Parallel environments of PettingZoo as tasks: those of mpe2, of ``pettingzoo.sisl``, and the user's own."""

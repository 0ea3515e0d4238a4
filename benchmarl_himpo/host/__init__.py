"""Access to undocumented parts of other libraries (hosts), one module per host.

A host is a library that this package extends: BenchMARL, TorchRL, tensordict, VMAS, Hydra and torch. Undocumented parts
of hosts are used only here, each with the reason ("Needed ...") and a documented feature that would replace it. Each
entry has one test of its name in ``tests/host``, which fails if a release of the host changes it. This file imports
nothing, and only ``benchmarl.py`` imports BenchMARL, so that the library can use the other modules without BenchMARL.
"""

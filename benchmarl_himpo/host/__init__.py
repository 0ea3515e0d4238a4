"""Everything that this package uses of its hosts beyond their documentation, one module per host.

A host is a library that this package extends: BenchMARL, TorchRL, tensordict, VMAS, Hydra and torch. Where one offers
no documented way, what is used instead stands here and nowhere else, under a name that says what it gives, with why it
is needed and what would replace it. Each entry has one test in ``tests/host``: a release of a host that changes it
fails the test of that name. This file imports nothing, and only ``benchmarl.py`` imports BenchMARL, so that the rest of
the library can use the other modules without it.
"""

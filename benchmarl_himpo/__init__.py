"""HiMPo, hierarchical message-passing policies, as an extension of BenchMARL.

Import is cheap: nothing of torch or BenchMARL is loaded before it is used.
"""

from benchmarl_himpo.registration import register

__version__ = "0.1.0"

__all__ = ["__version__", "register"]

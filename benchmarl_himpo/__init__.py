"""HiMPo, hierarchical message-passing policies, as an extension of BenchMARL.

Import is cheap: nothing of torch or BenchMARL is loaded before it is used.
"""

from benchmarl_himpo.config import add_yaml_folder
from benchmarl_himpo.registration import PluginError, register, register_algorithm, register_task

__version__ = "0.1.0"

__all__ = ["PluginError", "__version__", "add_yaml_folder", "register", "register_algorithm", "register_task"]

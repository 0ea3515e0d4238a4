"""Lets every Hydra program that uses BenchMARL find the YAML of this package."""

from __future__ import annotations

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class HimpoSearchPath(SearchPathPlugin):
    """Appends our ``conf/`` to where Hydra looks, so that files of the program, such as BenchMARL's, win over ours.

    Does nothing in a program that has not imported BenchMARL, since Hydra loads the plugins of all installed packages.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append ``conf/``, unless the program starts from it, as our own commands do.

        Args:
            search_path: where Hydra looks, changed in place.
        """
        if "benchmarl" not in sys.modules:
            return
        from benchmarl_himpo.config import CONF_DIR
        from benchmarl_himpo.registration import register

        register()
        if str(CONF_DIR) not in [element.path.removeprefix("file://") for element in search_path.get_path()]:
            search_path.append("benchmarl_himpo", f"file://{CONF_DIR}")

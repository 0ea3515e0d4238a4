"""Turns the roles of docstrings, such as ``:class:`~package.module.Name```, into links of the API reference."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|meth|func|mod|data|attr):`(~?)([\w.]+)`")


def to_markdown(text: str) -> str:
    """Link what the site has a heading for; show the rest as code."""

    def replace(match: re.Match[str]) -> str:
        is_short, path = match.groups()
        name = path.rpartition(".")[2] if is_short else path
        shown = name.replace("_", "&#95;")  # no emphasis
        return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'

    return ROLE.sub(replace, text).replace("``", "`").replace("::\n", ":\n")


class SphinxRoles(Extension):
    """Rewrites docstrings while they are collected."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)

"""Links that lead out of ``docs/`` in the repository lead to pages of the site; mkdocs calls this for every page."""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "conf/algorithm/base/himppo.yaml": "algorithms/options.md",
}
"""Files that docs/generate.py makes pages of, with the names of these."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Give links out of ``docs/`` the targets that docs/generate.py puts there."""
    folder = posixpath.dirname(page.file.src_uri)

    def replace(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if "://" in target or path.startswith("docs/"):
            return match[0]
        return f"]({posixpath.relpath(PAGES.get(path, path), folder or '.')}{anchor})"

    return LINK.sub(replace, markdown)

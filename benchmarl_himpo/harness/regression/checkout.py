"""The two compared states of the code: the running one, and a commit in a git worktree."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import benchmarl_himpo
from benchmarl_himpo.harness.regression.verdict import InconclusiveError

OWN_ROOT = Path(benchmarl_himpo.__file__).resolve().parents[1]
"""Folder from which the running package is imported: the checkout, or site-packages."""


def resolve_commit(base: str) -> str:
    """Full hash of a commit, tag or branch in the checkout of the running package.

    Raises:
        ValueError: if the commit does not exist.
        InconclusiveError: if the package does not run from a git checkout.
    """
    if not (OWN_ROOT / ".git").exists():
        raise InconclusiveError(
            "mode=full compares two commits and needs a git checkout of the project, which an installed package is "
            "not: clone the repository and run the gate there"
        )
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
    if not commit:
        raise ValueError(
            f"base={base} is no commit, tag or branch of {OWN_ROOT}: give one that `git rev-parse` knows (a shallow "
            "clone has none of the older ones: `git fetch --unshallow`)"
        )
    return commit


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """Check out a commit into a git worktree, and remove the worktree at the end.

    A worktree of an interrupted gate is replaced.

    Yields:
        The root of the worktree, an absolute path.

    Raises:
        InconclusiveError: if git cannot check it out, or Python would import the package from elsewhere.
    """
    root = folder.resolve()
    _git("worktree", "remove", "--force", str(root))
    _git("worktree", "prune")
    if _git("worktree", "add", "--detach", "--force", str(root), commit) is None:
        raise InconclusiveError(f"git could not check {commit} out into {root}: is there space, and is it writable?")
    try:
        _check_imported_from(root)
        yield root
    finally:
        _git("worktree", "remove", "--force", str(root))


def _check_imported_from(root: Path) -> None:
    """Check that a process started in a folder imports the package of that folder."""
    code = "import benchmarl_himpo; print(benchmarl_himpo.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    if done.returncode != 0 or not Path(done.stdout.strip()).resolve().is_relative_to(root):
        raise InconclusiveError(
            f"Python imports benchmarl_himpo from {done.stdout.strip() or 'nowhere'} instead of {root}: unset "
            "PYTHONPATH and PYTHONSAFEPATH"
        )


def _git(*arguments: str) -> str | None:
    """Output of a git command in the running checkout; None if it failed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=OWN_ROOT, capture_output=True, text=True)
    except OSError as error:
        raise InconclusiveError(f"git cannot be started ({error}): mode=full needs it") from error
    return done.stdout.strip() if done.returncode == 0 else None

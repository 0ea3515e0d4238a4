"""What a record says of the software and the machine it was made with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarl_himpo.harness.records import provenance as module
from benchmarl_himpo.harness.records.provenance import provenance


@pytest.mark.parametrize(
    ("preload", "told"),
    [("", "none"), ("/opt/lib/libmkl_amd.so", "libmkl_amd.so"), ("/opt/a.so:/opt/b.so c.so", "a.so, b.so, c.so")],
)
def test_libraries_that_are_loaded_first_are_named_without_their_paths(
    preload: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", preload)
    assert provenance({"cpu"})["preloaded"] == told


def test_packages_of_the_task_are_named() -> None:
    of_task = provenance({"cpu"}, "mpe/simple_spread").keys() - provenance({"cpu"}, "vmas/sampling").keys()
    assert of_task == {"mpe2", "pettingzoo"}


@pytest.mark.parametrize(("changed", "is_dirty"), [(" M conf/config.yaml", True), ("", False)])
def test_a_checkout_is_dirty_where_what_computes_was_changed(
    changed: str, is_dirty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=0, stdout=changed)

    monkeypatch.setattr(module.subprocess, "run", run)
    assert provenance({"cpu"})["git_dirty"] is is_dirty
    (status,) = [command for command in asked if "status" in command]
    assert {"benchmarl_himpo", "conf"} <= {*status[status.index("--") :]}

"""What a record says of the software and the machine it was made with."""

from __future__ import annotations

import pytest

from benchmarl_himpo.benchmark.provenance import provenance


@pytest.mark.parametrize(
    ("preload", "told"),
    [("", "none"), ("/opt/lib/libmkl_amd.so", "libmkl_amd.so"), ("/opt/a.so:/opt/b.so c.so", "a.so, b.so, c.so")],
)
def test_libraries_that_are_loaded_first_are_named_without_their_paths(
    preload: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", preload)
    assert provenance({"cpu"})["preloaded"] == told

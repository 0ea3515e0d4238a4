"""The numerics fingerprint: the same every time, and another one where numbers differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarl_himpo.harness.records import fingerprint
from benchmarl_himpo.objectives import HimppoLoss


@pytest.mark.slow
def test_digests_are_taken_by_name_and_the_fingerprint_changes_with_the_numbers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {name: fingerprint.compute_digest(name) for name in ("himppo", "fingerprint")}
    taken = fingerprint.take_digests(*here)
    assert list(taken.items()) == list(here.items())  # whatever ran before in this process
    assert taken["himppo"] != taken["fingerprint"]
    asked: list[str] = []
    monkeypatch.setattr(fingerprint, "take_digests", lambda *names: asked.extend(names) or taken)
    assert fingerprint.fingerprint() == here["fingerprint"]
    assert asked == ["fingerprint"]
    forward = HimppoLoss.forward

    def slightly_different(self, tensordict):
        losses = forward(self, tensordict)
        return losses.set("loss_objective", losses["loss_objective"] * (1 + 1e-6))

    monkeypatch.setattr(HimppoLoss, "forward", slightly_different)
    assert fingerprint.compute_digest() != here["fingerprint"]


def test_a_golden_run_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no numbers here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"could not be taken: (.|\n)*no numbers here"):
        fingerprint.fingerprint()

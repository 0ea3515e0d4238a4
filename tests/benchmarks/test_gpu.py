"""The script for a GPU, rehearsed on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.scripts import load_script

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_checks_and_measures_and_says_what_it_left_out(tmp_path: Path) -> None:
    given = ["--device", "cpu", "--envs", "1", "--algorithms", "himppo", "--minutes", "20"]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", *given, "--output", tmp_path / "gpu.json"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "gpu.json").read_text())
    checks = {check["name"]: check["found"] for check in results["checks"]}
    assert {"log-ratio before the first update, highest", "two iterations against one that is resumed"} < set(checks)
    assert checks["advantages, losses and gradients against the CPU"] == 0
    assert checks["policy and dynamic graph against the CPU"] == 0
    measured = {(row["name"], row["update_step"]) for row in results["rows"]}
    assert measured == {("ippo, stock BenchMARL", "eager"), ("himppo", "eager")}
    left_out = {left["name"]: left["reason"] for left in results["left_out"]}
    assert "experiment.train_device=cpu" in left_out["himppo, 1 envs, highest, cudagraphs"]
    assert "| himppo | 1 | highest | eager |" in done.stdout


def test_what_does_not_fit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_script(ROOT / "benchmarks" / "throughput.py", "throughput")
    script = load_script(ROOT / "benchmarks" / "gpu.py", "gpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--minutes", "0"])
    with pytest.raises(SystemExit) as exit_info:
        script.main()
    assert not exit_info.value.code
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["checks"] == results["rows"] == []
    assert {left["reason"] for left in results["left_out"]} == {"no time"}
    assert "himppo, 6000 envs, high, cudagraphs" in {left["name"] for left in results["left_out"]}

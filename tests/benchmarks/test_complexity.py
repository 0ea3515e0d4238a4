"""The complexity profile, on two tiny teams."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.scripts import load_script

ROOT = Path(__file__).parents[2]


def test_costs_that_grow_by_a_power_have_it_as_exponent() -> None:
    """Time by 1.5, bytes by 2, and nothing sent by the second method."""
    load_script(ROOT / "benchmarks" / "throughput.py", "throughput")
    complexity = load_script(ROOT / "benchmarks" / "complexity.py", "complexity")
    rows = [
        {
            "name": name,
            "n_agents": n,
            "seconds_per_1000_frames": {part: [n**1.5] for part in ("collection", "processing", "training", "total")},
            "flops_per_frame": {"collection": 1e9 * n, "training": 1e9 * n, "total": 2e9 * n},
            "peak_memory_mib": 10.0,
            "communication": {"messages": n * sends, "bytes": n * sends},
        }
        for n in (2, 4, 8)
        for name, sends in (("himppo, full", 1), ("ippo", 0))
    ]
    results = {"rows": rows, "machine": {"cpu": "none"}, "left_out": []}
    cells = [line.strip("| ").split(" | ") for line in complexity.format_tables(results).splitlines()]
    columns = next(line for line in cells if line[0] == "method")
    found = {line[0]: dict(zip(columns, line, strict=True)) for line in cells if len(line) == len(columns)}
    assert (found["himppo, full"]["time"], found["himppo, full"]["bytes"]) == ("1.5", "2")
    assert (found["ippo"]["operations of acting"], found["ippo"]["bytes"]) == ("1", "-")
    assert "himppo, full: 1.50" in complexity.draw(results)


@pytest.mark.slow
def test_costs_of_two_team_sizes_have_exponents_and_a_picture(tmp_path: Path) -> None:
    """What agents compute by themselves grows as the team does; of what is not sent there is no exponent."""
    pytest.importorskip("matplotlib", reason="the picture needs the report extra")
    given = ["--agents", "2", "4", "--rounds", "1", "--iters", "1", "--methods", "himppo, full", "ippo"]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "complexity.py", *given, "--output", tmp_path / "costs.json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {(row["name"], row["n_agents"]): row for row in json.loads((tmp_path / "costs.json").read_text())["rows"]}
    assert set(rows) == {(name, n) for name in ("himppo, full", "ippo") for n in (2, 4)}
    for row in rows.values():
        assert len(row["seconds_per_1000_frames"]["total"]) == 1
        assert row["peak_memory_mib"] > 0
        assert 0 < row["flops_per_frame"]["collection"] < row["flops_per_frame"]["training"]
    per_agent = 2 * (
        24 * 256 + 256 * 256 + 256 * 4
    )  # observation, two hidden layers, mean and deviation of two actions
    assert rows["ippo", 4]["flops_per_frame"]["collection"] == pytest.approx(4 * per_agent, rel=1e-3)
    assert rows["ippo", 4]["communication"] == {"messages": 0, "bytes": 0}
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    columns = next(line for line in cells if line[0] == "method")
    methods = {line[0]: dict(zip(columns, line, strict=True)) for line in cells if line[0] in ("himppo, full", "ippo")}
    assert (methods["ippo"]["operations of acting"], methods["ippo"]["bytes"]) == ("1", "-")
    sent = [
        4 * rows["himppo, full", 4]["communication"]["bytes"],
        2 * rows["himppo, full", 2]["communication"]["bytes"],
    ]
    assert float(methods["himppo, full"]["bytes"]) == pytest.approx(math.log2(sent[0] / sent[1]), abs=0.01)
    picture = (tmp_path / "costs.svg").read_text()
    assert f"himppo, full: {float(methods['himppo, full']['memory']):.2f}" in picture

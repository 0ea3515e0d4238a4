"""Threads: waiting ones sleep, their number is an option of a run, which says how many it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarl_himpo.harness.checks import RequestError
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs.training import check_config, train


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["PASSIVE", "300"]),
        ({"GOMP_SPINCOUNT": "5"}, ["PASSIVE", "5"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", "None"]),
    ],
)
@pytest.mark.parametrize("module", ["benchmarl_himpo.harness", "benchmarl_himpo.__main__"])
def test_openmp_is_told_to_let_waiting_threads_sleep_before_torch_is_loaded(
    module: str, given: dict[str, str], expected: list[str]
) -> None:
    said = "print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
    code = f"import sys, os, {module}, benchmarl_himpo.harness; {said}"
    unset = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    env = {key: value for key, value in os.environ.items() if key not in unset} | given
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", *expected]


@pytest.mark.parametrize("n_threads", [0, -1, 1.5, "all", True])
def test_a_number_of_threads_that_cannot_be_is_refused(n_threads: object) -> None:
    cfg = compose(["algorithm=ippo", f"n_threads={n_threads}"], return_hydra_config=True)
    with pytest.raises(RequestError, match="n_threads="):
        check_config(cfg, cfg.hydra.runtime.choices)


def test_a_run_computes_with_the_threads_that_it_is_given_and_says_so(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    overrides = ["algorithm=ippo", *tiny_overrides, f"experiment.save_folder={tmp_path}", "experiment.loggers=[]"]
    cfg = compose([*overrides, f"n_threads={before + 1}"], return_hydra_config=True)
    try:
        train(cfg, cfg.hydra.runtime.choices)
        assert torch.get_num_threads() == before + 1
        assert f"threads: {before + 1}" in capsys.readouterr().out.splitlines()
    finally:
        torch.set_num_threads(before)

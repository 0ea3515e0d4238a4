"""Options of the commands that are not Hydra's: typed like their defaults."""

from __future__ import annotations

import re

import pytest

from benchmarl_himpo.harness.commands import sweep
from benchmarl_himpo.harness.commands.options import read_options, sort_arguments, split_arguments


def test_values_get_the_type_of_their_defaults() -> None:
    options = read_options("sweep.yaml", ["results=some/folder", "retries=3", "workers=2", "publish=2025"])
    assert list(options.results) == ["some/folder"]
    assert (options.retries, options.workers, options.publish, options.dry_run) == (3, 2, 2025, False)
    assert list(read_options("sweep.yaml", ["results=[a,b]"]).results) == ["a", "b"]
    assert read_options("report.yaml", ["title=2025"]).title == "2025"
    assert read_options("evaluate.yaml", ["confidence=0"]).confidence == 0


@pytest.mark.parametrize(
    "text", ["lr lowered #2", "default: narrower", "[draft] x", "2024_01", "a=b", "'quoted'", "- x"]
)
def test_text_is_taken_as_it_is(text: str) -> None:
    assert read_options("report.yaml", [f"title={text}"]).title == text
    assert str(read_options("sweep.yaml", [f"publish={text}"]).publish) == text


def test_the_last_value_holds_and_null_takes_one_back() -> None:
    options = read_options("sweep.yaml", ["publish=2024", "publish=x", "workers=2", "workers=null"])
    assert (options.publish, options.workers) == ("x", None)
    assert read_options("sweep.yaml", ["publish=x", "publish=null"]).publish is None


@pytest.mark.parametrize(
    ("file", "argument", "words"),
    [
        ("sweep.yaml", "dry_run=yess", "must be true or false"),
        ("sweep.yaml", "retries=1.5", "must be a whole number"),
        ("sweep.yaml", "retries=True", "must be a whole number"),
        ("evaluate.yaml", "confidence=95%", "must be a number"),
        ("sweep.yaml", "results=[a", "is not understood"),
        ("sweep.yaml", "folder", "needs a value"),
    ],
)
def test_another_type_is_refused(file: str, argument: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{argument} {words}")):
        read_options(file, [argument])


@pytest.mark.parametrize("file", ["sweep.yaml", "regression.yaml"])
def test_a_misspelt_option_is_not_taken_for_one_of_the_runs(file: str) -> None:
    """Hydra would advise a plus before it, with which the command does what was not meant."""
    with pytest.raises(ValueError, match=r"^dryrun is no option of this command: choose from .*folder"):
        split_arguments(file, ["dryrun=true", "seed=1"])
    of_runs = ["algorithm=ippo", "seed=1", "absolute_metric_episodes=3", "task.n_agents=3", "+experiment.x=1"]
    assert split_arguments(file, ["workers=2", *of_runs, "model@critic_model=layers/mlp"])[1] == [
        *of_runs,
        "model@critic_model=layers/mlp",
    ]


@pytest.mark.parametrize("file", ["evaluate.yaml", "export.yaml"])
def test_an_option_of_the_run_is_named_with_its_dot(file: str) -> None:
    with pytest.raises(ValueError, match=r"^n_agents is no option of this command: .*episodes.*task\.n_agents=5"):
        sort_arguments(file, ["run", "n_agents=5"])
    assert sort_arguments(file, ["run", "task.n_agents=5"])[2] == [("task.n_agents", "5")]


def test_an_option_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"^out is no option of this command: choose from output, title, "):
        read_options("report.yaml", ["out=elsewhere"])


def test_a_sweep_refuses_an_objective_which_it_would_not_read() -> None:
    with pytest.raises(ValueError, match=r"^objective="):
        sweep.read_arguments(["algorithm=ippo", "objective=collection_auc"])

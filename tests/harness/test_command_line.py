"""Options of the commands that are not Hydra's: typed, and told from what is said of runs."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness.command_line import read_for_new_runs, read_for_trained_runs, read_options, split_folders
from benchmarl_himpo.harness.commands import sweep
from benchmarl_himpo.harness.commands.evaluate import EvaluateOptions
from benchmarl_himpo.harness.commands.export import ExportOptions
from benchmarl_himpo.harness.commands.film import FilmOptions
from benchmarl_himpo.harness.commands.reference_returns import ReferenceReturnsOptions
from benchmarl_himpo.harness.commands.report import ReportOptions
from benchmarl_himpo.harness.commands.sweep import SweepOptions
from benchmarl_himpo.harness.regression.gate import GateOptions

OPTIONS = {
    "audit": EvaluateOptions,
    "evaluate": EvaluateOptions,
    "export": ExportOptions,
    "film": FilmOptions,
    "reference_returns": ReferenceReturnsOptions,
    "regression": GateOptions,
    "report": ReportOptions,
    "sweep": SweepOptions,
}


def read(command: str, *given: str):
    return read_options(command, OPTIONS[command], given)


def test_every_file_of_options_has_what_its_command_reads_and_no_more() -> None:
    of_files = {file.stem: set(OmegaConf.load(file)) for file in CONF_DIR.glob("*.yaml") if file.stem != "config"}
    of_files["reference_returns"] -= {"version", "tasks"}  # what was measured
    assert of_files == {name: {field.name for field in fields(options)} for name, options in OPTIONS.items()}
    for command in OPTIONS:
        read(command)  # defaults are of their types and in range


def test_values_get_the_types_of_their_options() -> None:
    options = read("sweep", "results=some/folder", "retries=3", "workers=2", "publish=2025")
    assert options.results == [Path("some/folder")]
    assert (options.retries, options.workers, options.publish, options.dry_run) == (3, 2, Path("2025"), False)
    assert read("sweep", "results=[a,b]", "dry_run=true").results == [Path("a"), Path("b")]
    assert read("sweep", "results=[]").results == read("sweep", "results=").results == []
    assert read("report", "title=2025").title == "2025"
    assert (read("export", "tolerance=1").tolerance, read("export", "seed=1_000").seed) == (1.0, 1000)


@pytest.mark.parametrize(
    "text", ["lr lowered #2", "default: narrower", "[draft] x", "2024_01", "a=b", "'quoted'", "- x", "null-a", "~x"]
)
def test_text_is_taken_as_it_is(text: str) -> None:
    assert read("report", f"title={text}").title == text
    assert str(read("sweep", f"publish={text}").publish) == text
    assert read("regression", "mode=full", f"base={text}").base == text


def test_the_last_value_holds_and_null_takes_one_back() -> None:
    options = read("sweep", "publish=2024", "publish=x", "workers=2", "workers=null")
    assert (options.publish, options.workers) == (Path("x"), None)
    for null in ("null", "", "~"):
        assert read("sweep", "publish=x", f"publish={null}").publish is None
    assert read("report", "title=null").title == "null"  # which is no option that may be null


@pytest.mark.parametrize(
    ("command", "argument", "words"),
    [
        ("sweep", "dry_run=yess", "must be true or false"),
        ("sweep", "retries=1.5", "must be a whole number"),
        ("sweep", "retries=True", "must be a whole number"),
        ("sweep", "retries=null", "must be a whole number"),
        ("sweep", "workers=two", "must be a whole number or null"),
        ("evaluate", "confidence=95%", "must be a number"),
        ("evaluate", "confidence=null", "must be a number"),
        ("sweep", "results=[a", "must be a list such as [a,b], or [] for none"),
        ("report", "protocol=null", "must be a list such as [a,b], or [] for none"),
        ("sweep", "folder=${nothing}", "must be a path"),
        ("report", "title=${", "must be a text"),
        ("sweep", "folder", "needs a value"),
        ("report", "title=???", "needs a value"),
    ],
)
def test_another_type_is_refused_in_one_sentence_that_names_the_option(command: str, argument: str, words: str) -> None:
    shown = argument.partition("=")[0] if words == "needs a value" else argument
    with pytest.raises(ValueError, match=rf"^{re.escape(f'{shown} {words}')}") as raised:
        read(command, argument)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("evaluate", "episodes=1"),
        ("audit", "confidence=1"),
        ("film", "moment=0"),
        ("export", "tolerance=-1"),
        ("export", "tolerance=nan"),
        ("report", "repetitions=99"),
        ("report", "confidence=0"),
        ("sweep", "workers=0"),
        ("sweep", "retries=-1"),
        ("sweep", "engine=threads"),
        ("regression", "toy_threshold=90"),
        ("reference_returns", "episodes=1"),
    ],
)
def test_what_is_out_of_range_is_refused_as_it_was_given(command: str, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(argument)} "):
        read(command, argument)


def test_an_option_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"^out is no option of this command: choose from output, title, "):
        read("report", "out=elsewhere")


# Beside runs


@pytest.mark.parametrize("command", ["sweep", "regression", "reference_returns"])
def test_a_misspelt_option_is_not_taken_for_one_of_the_runs(command: str) -> None:
    """Hydra would advise a plus before it, with which the command does what was not meant."""
    options, name = OPTIONS[command], fields(OPTIONS[command])[0].name
    for misspelt in ("dryrun=true", "dryrun"):
        with pytest.raises(ValueError, match=rf"^dryrun is no option of this command: choose from .*{name}"):
            read_for_new_runs(command, options, [misspelt, "algorithm=ippo"])
    of_runs = ["algorithm=ippo", "absolute_metric_episodes=3", "task.n_agents=3", "+experiment.x=1", "~task.y"]
    given = [*of_runs, "model@critic_model=layers/mlp", "hydra/launcher=basic"]
    assert read_for_new_runs(command, options, given) == (read(command), given)


def test_the_seed_of_a_command_that_has_one_is_its_own() -> None:
    assert read_for_new_runs("sweep", SweepOptions, ["seed=1,2"])[1] == ["seed=1,2"]
    options, overrides = read_for_new_runs("reference_returns", ReferenceReturnsOptions, ["seed=5", "task=lbfws/easy"])
    assert (options.seed, overrides) == (5, ["task=lbfws/easy"])


@pytest.mark.parametrize("command", ["evaluate", "audit", "film", "export"])
def test_an_option_of_the_run_is_named_with_its_dot(command: str) -> None:
    options, name = OPTIONS[command], fields(OPTIONS[command])[0].name
    with pytest.raises(ValueError, match=rf"^n_agents is no option of this command: .*{name}.*task\.n_agents=5"):
        read_for_trained_runs(command, options, ["run", "n_agents=5"])
    with pytest.raises(ValueError, match=r"^algorithm=ippo chooses a file"):
        read_for_trained_runs(command, options, ["run", "algorithm=ippo"])
    with pytest.raises(ValueError, match=r"^give at least one folder"):
        read_for_trained_runs(command, options, ["task.n_agents=5"])
    given = ["run", "task.n_agents=3,5", "seed=7", "+experiment.x=[1,2]"]
    folders, values, changes = read_for_trained_runs(command, options, given)
    assert (folders, values.seed, changes) == ([Path("run")], 7, ["task.n_agents=3,5", "+experiment.x=[1,2]"])


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    """As those that Hydra names after overrides."""
    folder = tmp_path / "algorithm=ippo,seed=1"
    folder.mkdir()
    assert split_folders([str(folder), "task.n_agents=5", "run"]) == ([folder, Path("run")], ["task.n_agents=5"])


def test_a_sweep_refuses_an_objective_which_it_would_not_read() -> None:
    with pytest.raises(ValueError, match=r"^objective="):
        sweep.read_arguments(["algorithm=ippo", "objective=collection_auc"])

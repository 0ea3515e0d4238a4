"""Sweeps are expanded as Hydra does, and refused before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.sweeps import FINGERPRINT

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness import checks
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records.spec import RunSpec
from benchmarl_himpo.harness.sweeps.expansion import SweepError, expand, make_specs
from benchmarl_himpo.harness.sweeps.protocol import load_protocol


def specs_of(*overrides: str) -> list[RunSpec]:
    return make_specs(expand(overrides), Path("sweep"), FINGERPRINT)


def test_values_are_combined_and_low_seeds_come_first() -> None:
    specs = specs_of("algorithm=ippo,mappo", "seed=range(0,3)", "task.n_agents=5")
    assert [(spec.variant, spec.seed) for spec in specs] == [(v, seed) for seed in range(3) for v in ("ippo", "mappo")]
    assert {spec.task_label for spec in specs} == {"vmas/sampling[n_agents=5]"}
    assert specs[0].overrides == ["algorithm=ippo", "seed=0", "task.n_agents=5"]


PROTOCOLS = {
    "foraging": 28,
    "robustness_foraging": 69,
    "robustness_sampling": 69,
    "sampling_ablations": 39,
    "sampling_continuous": 75,
    "sampling_discrete": 18,
    "sampling_long": 50,
    "goals": 20,
    "sampling_width": 40,
    "shared_reward": 48,
    "suite": 108,
    "suite_discrete": 63,
    "smax": 15,
    "traffic": 12,
}
WITHOUT_THE_PAPERS = ("goals", "robustness_foraging", "robustness_sampling", "shared_reward", "smax", "traffic")
OF_THE_GATE = {"regression": 3, "regression_cue": 3}


def each_value_once(runs: Iterable[list[str]]) -> Iterator[list[str]]:
    """The first runs that have a value which no run before them has."""
    found: set[str] = set()
    for run in runs:
        if not found.issuperset(run):
            found.update(run)
            yield run


@cache
def specs_with_each_value(protocol: str) -> list[RunSpec]:
    """Runs of a protocol with every value of it, not every combination: composing takes half a second a run."""
    runs = expand([f"protocol={protocol}", "seed=0"])
    return make_specs(list(each_value_once(runs)), Path("sweep"), FINGERPRINT)


def check_machine(protocol: str) -> None:
    """Skip where the runs of a protocol need a package that is not here."""
    package = {"sampling_ablations": "torch_geometric", "smax": "jaxmarl", "traffic": "sumo_rl"}.get(protocol)
    if package is not None and find_spec(package) is None:
        pytest.skip(f"its runs need {package}")


def test_every_protocol_is_tested() -> None:
    assert {file.stem for file in (CONF_DIR / "protocol").iterdir()} == {*PROTOCOLS, *OF_THE_GATE}


@pytest.mark.parametrize(("protocol", "n_runs"), OF_THE_GATE.items())
def test_runs_of_the_gate_are_the_same_with_and_without_a_gpu_and_evaluated_at_their_end(
    protocol: str, n_runs: int
) -> None:
    specs = specs_of(f"protocol={protocol}")
    assert len(specs) == n_runs
    for spec in specs:
        experiment = spec.config["experiment"]
        assert {experiment[f"{kind}_device"] for kind in ("sampling", "train", "buffer")} == {"cpu"}
        assert experiment["evaluation_interval"] == spec.n_frames
        assert experiment["on_policy_collected_frames_per_batch"] == (
            experiment["on_policy_n_envs_per_worker"] * spec.config["task"]["max_steps"]
        )


@pytest.mark.parametrize(("protocol", "n_runs"), PROTOCOLS.items())
def test_protocols_can_be_done_and_say_how_all_was_tuned(protocol: str, n_runs: int) -> None:
    check_machine(protocol)
    assert len(expand([f"protocol={protocol}"])) == n_runs
    specs = specs_with_each_value(protocol)
    algorithms = {spec.choice("algorithm") for spec in specs}
    assert ("himppo_paper" in algorithms) == (protocol not in WITHOUT_THE_PAPERS)
    assert algorithms <= set(compose([f"protocol={protocol}"]).protocol.tuning)
    n_episodes, n_absolute = (4, 16) if protocol == "traffic" else (32, 320)  # each of them a process
    shared = {"evaluation_episodes": n_episodes, "prefer_continuous_actions": protocol != "sampling_discrete"}
    for key, value in shared.items():
        assert {spec.config["experiment"][key] for spec in specs} == {value}
    assert {spec.config["absolute_metric_episodes"] for spec in specs} == {n_absolute}
    assert len({spec.n_frames for spec in specs}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "n_runs"), PROTOCOLS.items())
def test_every_run_of_a_protocol_can_be_done(protocol: str, n_runs: int) -> None:
    check_machine(protocol)
    assert len({spec.id for spec in specs_of(f"protocol={protocol}")}) == n_runs


@pytest.mark.parametrize("protocol", ["robustness_foraging", "robustness_sampling"])
def test_runs_of_a_robustness_study_differ_from_the_default_in_one_factor(protocol: str) -> None:
    plain, *others = (spec.config["algorithm"] for spec in specs_with_each_value(protocol))
    (uniform,) = (other for other in others if other["credit"] == "uniform" and other["lmbda"] == plain["lmbda"])
    assert len(others) == 22
    fields = "part_options"
    for other in others:
        base = plain if other["lmbda"] == plain["lmbda"] else uniform  # lambda above the workers needs this rule
        options = {name for name in base if name != fields and other[name] != base[name]}
        parts = {name for name in base[fields] if other[fields][name] != base[fields][name]}
        assert len(options | parts) == 1


def test_a_machine_that_cannot_do_the_runs_of_a_protocol_can_report_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert len(load_protocol("sampling_ablations").runs) == PROTOCOLS["sampling_ablations"]
    with pytest.raises(SweepError, match="needs torch_geometric"):
        specs_of("protocol=sampling_ablations", "algorithm=ippo")


def test_options_that_cannot_work_on_any_task_end_a_sweep_before_its_first_run() -> None:
    with pytest.raises(SweepError, match=r"lmbda=\[0.95,0.5,0.5\]: algorithm.credit=telescoped"):
        specs_of("algorithm=himppo", "algorithm.lmbda=[0.95,0.5,0.5]")


def test_a_value_on_the_command_line_replaces_that_of_a_protocol() -> None:
    specs = specs_of("protocol=sampling_discrete", "algorithm=qmix", "seed=7,8")
    assert [(spec.variant, spec.seed) for spec in specs] == [("qmix[experiment.lr=0.0003]", seed) for seed in (7, 8)]


def test_algorithms_on_the_command_line_choose_among_those_of_a_protocol() -> None:
    pytest.importorskip("torch_geometric", reason="one of the methods needs the gnn extra")
    ablation = specs_of("protocol=sampling_ablations", "algorithm=himppo_sg,ippo", "seed=0")
    assert {(spec.variant, spec.task_label) for spec in ablation} == {
        ("himppo_sg", "vmas/sampling"),
        ("himppo_sg", "vmas/sampling[n_agents=7]"),
        ("ippo[model=gnn_mlp; entropy_coef=0.01]", "vmas/sampling"),
    }
    assert {spec.choice("algorithm") for spec in specs_of("protocol=regression", "algorithm=ippo,mappo")} == {
        "ippo",
        "mappo",
    }
    (own,) = specs_of("protocol=sampling_ablations", "algorithm=himppo_haven", "seed=0")
    assert (own.variant, own.task_label) == ("himppo_haven", "vmas/sampling")


def test_tasks_on_the_command_line_choose_among_those_of_a_protocol() -> None:
    """Not a second time in the grid of other teams."""
    labels = {
        spec.task_label for spec in specs_of("protocol=suite", "algorithm=himppo", "task=vmas/navigation", "seed=0")
    }
    assert labels == {"vmas/navigation[max_n_frames=240000]"}
    both = specs_of("protocol=suite", "algorithm=ippo", "task=vmas/sampling,vmas/dropout", "seed=0")
    assert {spec.task_label.removesuffix("max_n_frames=240000]") for spec in both} == {
        "vmas/sampling[",
        "vmas/sampling[n_agents=7; ",
        "vmas/dropout[",
    }


def test_what_tuning_found_holds_unless_the_command_line_says_otherwise() -> None:
    tuned = specs_of("protocol=sampling_continuous", "algorithm=himppo,ippo", "seed=7", "task.n_agents=3")
    assert [spec.variant for spec in tuned] == ["himppo", "ippo[entropy_coef=0.01]"]
    (told,) = specs_of(
        "protocol=sampling_continuous", "algorithm=ippo", "algorithm.entropy_coef=0", "seed=7", "task.n_agents=3"
    )
    assert told.config["algorithm"]["entropy_coef"] == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=0,0"], "himppo on vmas/sampling with seed 0 stands 2 times in the sweep: "),
        (["algorithm=himppo", "algorithm.credit=telescoped,telescoped"], "stands 2 times"),
        (["absolute_metric_episodes=0,5"], "stands 2 times in the sweep, with options that results do not show"),
        (["algorithm=abacus,ippo"], "abacus"),
        (["algorithm.credits=final"], "credits"),
        (["seed=one"], "seed=one is no integer"),
        (["seed=range(0"], "range"),
        (["protocol=abacus"], "abacus"),
        (["protocol=sampling_discrete,sampling_long"], "protocol takes one value"),
        (["experiment.loggers=[]"], "lacks csv, which a sweep reads"),
        (["experiment.create_json=false"], "does not go with a sweep: leave it at true"),
        (["experiment.restore_file=elsewhere"], "does not go with a sweep: leave it at null"),
        (["critic_model=layers/mlp"], "write model@critic_model=layers/mlp"),
        (["experiment.on_policy_n_envs_per_worker=0"], "on_policy_n_envs_per_worker=0 must be 1 or more"),
        (["experiment.on_policy_minibatch_size=0"], "on_policy_minibatch_size=0 must be 1 or more"),
        (["algorithm=qmix", "experiment.off_policy_train_batch_size=0"], "off_policy_train_batch_size=0 must be 1"),
        (["experiment.save_folder=elsewhere"], "does not go with a sweep: leave it at null"),
        (["experiment.evaluation_interval=7"], "evaluation_interval"),
        (["absolute_metric_episodes=-1"], "must be a whole number: 0"),
        (["absolute_metric_episodes=null"], "must be a whole number"),
        (["absolute_metric_episodes=5", "experiment.evaluation=false"], "none takes place"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(overrides: list[str], message: str) -> None:
    with pytest.raises(SweepError) as error:
        specs_of(*overrides)
    assert message in str(error.value)

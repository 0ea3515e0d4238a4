"""The tasks as BenchMARL sees them: specs, groups, positions, time-outs, and all algorithms that can take them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from benchmarl.environments import task_config_registry
from benchmarl.experiment import Callback, Experiment
from tensordict import TensorDictBase
from torchrl.envs.utils import check_env_specs

from benchmarl_himpo.environments.tasks import TASKS
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs.training import CommandError, train

pytest.importorskip("mpe2", reason="needs the extra pettingzoo: pip install 'benchmarl_himpo[pettingzoo]'")

MakeExperiment = Callable[..., Experiment]
GROUPS = {
    "mpe/simple_spread": {"agent": 3},
    "mpe/simple_reference": {"agent": 2},
    "mpe/simple_speaker_listener": {"speaker": 1, "listener": 1},
    "mpe/simple_tag": {"adversary": 3, "agent": 2},
    "sisl/multiwalker": {"walker": 3},
}
SIMULATED = sorted(name for name in TASKS if name.startswith(("mpe/", "sisl/")))


def make_env(name: str, is_continuous: bool = True, seed: int = 0, **options):
    task = task_config_registry[name].get_task({**task_config_registry[name].get_from_yaml().config, **options})
    return task, task.get_env_fun(1, is_continuous, seed, "cpu")()


@pytest.mark.parametrize("name", SIMULATED)
def test_specs_hold_for_either_kind_of_actions_and_networks_see_the_observation_alone(name: str) -> None:
    kinds = [True, False] if name.startswith("mpe/") else [True]
    for is_continuous in kinds:
        task, env = make_env(name, is_continuous, max_steps=5)
        check_env_specs(env)
        groups = task.group_map(env)
        for group in groups:
            assert set(task.observation_spec(env)[group].keys()) == {"observation"}
            entries = set(env.observation_spec[group].keys())
            assert entries == {"observation", "position", "alive"}
        assert task.action_mask_spec(env) is None
        assert ("state" in env.observation_spec.keys()) == name.startswith("mpe/")
        if name in GROUPS:
            assert {group: len(agents) for group, agents in groups.items()} == GROUPS[name]
    assert (task.supports_continuous_actions(), task.supports_discrete_actions()) == (True, len(kinds) == 2)


@pytest.mark.parametrize("name", ["mpe/simple_spread", "mpe/simple_tag"])
def test_positions_are_those_that_agents_observe_where_they_do(name: str) -> None:
    _, env = make_env(name)
    rollout = env.rollout(5)
    for group in GROUPS[name]:
        torch.testing.assert_close(rollout[group, "position"], rollout[group, "observation"][..., 2:4])
    assert (rollout["agent", "position"][0] != rollout["agent", "position"][-1]).all()


@pytest.mark.parametrize("name", GROUPS)
def test_running_out_of_time_is_a_truncation_of_everybody(name: str) -> None:
    _, env = make_env(name, max_steps=4)
    rollout = env.rollout(10)
    assert len(rollout) == 4
    last = rollout["next"][-1]
    for td in (last, *(last[group] for group in GROUPS[name])):
        assert (td["done"].all(), td["terminated"].any(), td["truncated"].all()) == (True, False, True)
    assert all(last[group, "alive"].all() for group in GROUPS[name])


def test_walkers_that_fall_leave_and_the_others_go_on() -> None:
    options = {"terminate_on_fall": False, "remove_on_fall": True}
    config = task_config_registry["sisl/multiwalker"].get_from_yaml().config
    _, env = make_env("sisl/multiwalker", env_kwargs={**config["env_kwargs"], **options})
    torch.manual_seed(0)
    n_left = 0
    for _ in range(5):
        rollout = env.rollout(500)
        alive = rollout["next", "walker", "alive"]
        assert (alive[1:] <= alive[:-1]).all()  # nobody comes back
        was_dead = ~rollout["walker", "alive"]
        n_left += int(was_dead.any())
        assert (rollout["next", "walker", "reward"][was_dead] == 0).all()
        assert rollout["next", "walker", "done"][was_dead].all()
    assert n_left > 0


@pytest.mark.parametrize("name", ["mpe/simple_reference", "sisl/multiwalker"])
def test_pictures_need_no_display_and_survive_the_end_of_another_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of agents that speak, too: mpe2 draws what they say."""
    monkeypatch.delenv("DISPLAY", raising=False)
    task, env = make_env(name)
    _, other = make_env(name)
    other.close()
    env.rollout(2)
    assert task.has_render(env)
    picture = type(task).render_callback(None, env, None)
    assert picture.ndim == 3
    assert picture.shape[-1] == 3
    assert picture.min() < picture.max()


def test_without_the_extra_a_run_says_what_to_install_before_anything_is_written(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose([*tiny_overrides, "algorithm=ippo", "task=mpe/simple_spread"], return_hydra_config=True)
    monkeypatch.setitem(sys.modules, "mpe2", None)
    with pytest.raises(
        CommandError, match=r"needs mpe2 \(not installed\): pip install 'benchmarl_himpo\[pettingzoo\]'"
    ):
        train(cfg, cfg.hydra.runtime.choices)
    assert not (tmp_path / "runs").exists()


# Algorithms


SHORT = ["task.max_steps=10", "experiment.on_policy_n_envs_per_worker=2"]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "mpe/simple_reference" else ()) for n in GROUPS]
)
def test_a_hierarchy_of_every_group_trains(name: str, make_experiment: MakeExperiment) -> None:
    experiment = make_experiment("algorithm=himppo", f"task={name}", *SHORT)
    experiment.run()
    assert {group: len(agents) for group, agents in experiment.group_map.items()} == GROUPS[name]
    assert experiment.total_frames == 80
    assert experiment.algorithm.hierarchies.keys() == GROUPS[name].keys()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["himppo_flat", "mappo", "ippo", "qmix"])
@pytest.mark.parametrize("name", GROUPS)
def test_every_other_algorithm_trains(name: str, algorithm: str, make_experiment: MakeExperiment) -> None:
    if algorithm == "qmix" and name == "sisl/multiwalker":
        with pytest.raises(ValueError, match="not compatible"):
            make_experiment("algorithm=qmix", f"task={name}", *SHORT)
        return
    kinds = [True, False] if name.startswith("mpe/") and algorithm != "qmix" else [algorithm != "qmix"]
    for is_continuous in kinds:
        prefer = f"experiment.prefer_continuous_actions={str(is_continuous).lower()}"
        experiment = make_experiment(f"algorithm={algorithm}", f"task={name}", prefer, *SHORT)
        experiment.run()
        assert experiment.continuous_actions == is_continuous
        assert experiment.total_frames == 80


# Seeds


class Seen(Callback):
    """Keeps what batches and evaluations begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[torch.Tensor] = []
        self.evaluations: list[torch.Tensor] = []

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        self.batches.append(batch["agent", "observation"][:, 0])

    def on_evaluation_end(self, rollouts: list[TensorDictBase]) -> None:
        self.evaluations.append(torch.stack([rollout["agent", "observation"][0] for rollout in rollouts]))


def watch(experiment: Experiment) -> Seen:
    seen = Seen()
    experiment.callbacks.append(seen)
    experiment.run()
    return seen


def test_environments_draw_layouts_of_their_own_and_the_same_seed_draws_the_same(
    make_experiment: MakeExperiment,
) -> None:
    overrides = ["algorithm=ippo", "task=mpe/simple_spread", *SHORT]
    first, again, other = (watch(make_experiment(*overrides, f"seed={seed}")) for seed in (0, 0, 1))
    layouts = torch.cat([*first.batches, *first.evaluations])  # two of each, twice
    assert layouts.shape == (8, 3, 18)
    assert len(layouts.unique(dim=0)) == 8
    assert torch.equal(layouts, torch.cat([*again.batches, *again.evaluations]))
    assert not torch.equal(first.batches[0], other.batches[0])


def test_a_resumed_run_does_not_begin_at_its_beginning_and_is_evaluated_as_it_would_have_been(
    make_experiment: MakeExperiment,
) -> None:
    overrides = ["algorithm=ippo", "task=mpe/simple_spread", *SHORT, "experiment.keep_checkpoints_num=9"]
    whole = make_experiment(*overrides)
    of_whole = watch(whole)
    (checkpoint,) = whole.folder_name.glob("checkpoints/checkpoint_40.pt")
    rest = make_experiment(*overrides)
    rest.branch_from(checkpoint)
    of_rest = watch(rest)
    assert (rest.resumed, rest.resumed_exactly) == (True, False)
    assert not torch.equal(of_rest.batches[0], of_whole.batches[0])
    assert torch.equal(of_rest.evaluations[0], of_whole.evaluations[1])

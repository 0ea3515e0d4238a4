"""Names of runs: the same for the same configuration, and different where results may differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sweeps import FINGERPRINT

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records.spec import RunSpec, hash_config, load_spec, make_spec

GNN = ["algorithm=ippo", "model=gnn_mlp"]


def spec(*overrides: str, fingerprint: str = FINGERPRINT, folder: Path = Path("sweep")) -> RunSpec:
    cfg = compose(overrides, return_hydra_config=True)
    return make_spec(cfg, cfg.hydra.runtime.choices, overrides, folder, fingerprint)


def turned_round(value: object) -> object:
    """The same dicts with their keys in the opposite order."""
    return {k: turned_round(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value


def test_an_id_tells_algorithm_task_and_seed_and_does_not_depend_on_order(tmp_path: Path) -> None:
    one = spec("algorithm=ippo", "experiment.lr=1e-4", "seed=3", folder=tmp_path)
    other = spec("seed=3", "experiment.lr=0.0001", "algorithm=ippo", folder=tmp_path)
    assert one.id == other.id
    assert one.id.startswith("ippo-vmas_sampling-s3-")
    assert list(turned_round(one.config)) != list(one.config)
    assert hash_config(turned_round(one.config)) == one.config_hash
    assert load_spec(one.save()) == one


def test_seeds_share_a_hash_and_a_seed_set_later_gives_the_same_spec() -> None:
    first, second = spec("seed=0"), spec("seed=1")
    assert (first.config_hash, first.id.rpartition("-")[2]) == (second.config_hash, second.id.rpartition("-")[2])
    assert first.id != second.id
    assert first.with_seed(1, ["seed=1"]) == second


@pytest.mark.parametrize(
    "override",
    [
        "experiment.lr=1e-4",
        "experiment.max_n_frames=960000",
        "experiment.sampling_device=meta",
        "algorithm.hidden_dim=64",
        "model.num_cells=[64]",
        "task.n_agents=5",
        "absolute_metric_episodes=320",
        "algorithm=himppo_sg",
    ],
)
def test_what_may_change_results_changes_the_id(override: str) -> None:
    assert spec(override).id != spec().id


@pytest.mark.parametrize(
    "override",
    [
        "experiment.checkpoint_interval=0",
        "experiment.loggers=[csv,wandb]",
        "experiment.off_policy_memory_size=1",  # himppo is on-policy
        "protocol=sampling_continuous",  # its values count, and are the defaults
    ],
)
def test_what_changes_no_result_leaves_the_id(override: str) -> None:
    assert spec(override, "absolute_metric_episodes=0").id == spec().id


def test_names_come_from_the_configuration_alone() -> None:
    one, other = spec(), spec(fingerprint="other")
    assert one.id == other.id == f"himppo-vmas_sampling-s0-{one.config_hash[:8]}"
    assert (one.fingerprint, other.fingerprint) == (FINGERPRINT, "other")


@pytest.mark.parametrize(
    ("overrides", "variant", "task_label"),
    [
        ([], "himppo", "vmas/sampling"),
        (["algorithm=himppo_paper"], "himppo_paper", "vmas/sampling"),
        (["algorithm.goal_interval=[10,2]"], "himppo[goal_interval=10,2]", "vmas/sampling"),
        (["algorithm.credit=telescoped"], "himppo", "vmas/sampling"),  # as it is anyway
        (["algorithm.observation=[['observation'],null]"], "himppo[observation=[observation],null]", None),
        (
            ["algorithm.observation=[['observation[0:2]','observation[4:]']]"],
            "himppo[observation=[observation[0:2],observation[4:]]]",
            None,
        ),
        (["experiment.lr=1e-4", "experiment.gamma=0.9"], "himppo[experiment.gamma=0.9; experiment.lr=0.0001]", None),
        (["task.n_agents=7"], "himppo", "vmas/sampling[n_agents=7]"),
        (["protocol=sampling_discrete"], "himppo", "vmas/sampling[prefer_continuous_actions=false]"),
        (["experiment=quick"], "himppo", "vmas/sampling[max_n_frames=96000]"),
        ([*GNN, "model@critic_model=gnn_mlp"], "ippo[model=gnn_mlp]", "vmas/sampling"),
        (GNN, "ippo[model=gnn_mlp; critic_model=mlp]", "vmas/sampling"),
        (
            [*GNN, "model.layers.l2.num_cells=[8]"],
            "ippo[model=gnn_mlp; critic_model=mlp; model.layers.l2.num_cells=8]",
            None,
        ),
        (
            [
                "algorithm=ippo",
                "model=sequence",
                "model/layers@model.layers.l1=deepsets",
                "model/layers@model.layers.l2=mlp",
                "model.intermediate_sizes=[8]",
            ],
            "ippo[model=deepsets+mlp; critic_model=mlp; model.intermediate_sizes=8]",
            None,
        ),
    ],
)
def test_labels_say_what_differs(overrides: list[str], variant: str, task_label: str | None) -> None:
    named = spec(*overrides)
    assert named.variant == variant
    assert named.task_label == (task_label or "vmas/sampling")

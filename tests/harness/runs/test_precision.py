"""Precision of matrix products: an option of every run, the same in all its parts, refused where it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarl.experiment import Callback
from support.tiny_experiment import TinyExperiment, algorithm_config, mlp_config, vmas_task
from tensordict import TensorDictBase
from torch.utils._python_dispatch import TorchDispatchMode

import benchmarl_himpo
from benchmarl_himpo.harness.checks import RequestError
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.episodes import load_trained
from benchmarl_himpo.harness.records.lifecycle import SingleRun
from benchmarl_himpo.harness.runs import precision
from benchmarl_himpo.harness.runs.run_config import load_run_config
from benchmarl_himpo.harness.runs.training import check_config, train
from benchmarl_himpo.hierarchy.keys import HierarchyKeys
from benchmarl_himpo.objectives.functional import Intervals
from benchmarl_himpo.objectives.interval_advantage import interval_advantage

PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm}
BF16_STEP = 2.0**-8
"""Relative distance of neighbouring numbers of bfloat16, whose significands have 8 bits."""
needs_bf16 = pytest.mark.skipif(
    not precision.rounds_products("medium", "cpu"), reason="this processor multiplies no bfloat16"
)


class RoundedProducts(TorchDispatchMode):
    """Rounds the factors of matrix products to bfloat16 and sums in float32, as bfloat16 units do."""

    n_products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in PRODUCTS:
            self.n_products += 1
            *rest, left, right = args
            args = (*rest, left.bfloat16().float(), right.bfloat16().float())
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _precision_is_put_back() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every precision changes something on every device."""
    monkeypatch.setattr(precision, "rounds_products", lambda name, device: True)


# What is refused


def test_a_precision_is_refused_where_products_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def rounds_products(name: str, device: str) -> bool:
        asked.append((name, device))
        return device == "cuda"

    monkeypatch.setattr(precision, "rounds_products", rounds_products)
    precision.check_precision("high", {"sampling_device": "cuda", "train_device": "cuda"})
    precision.check_precision("highest", {"train_device": "cpu"})
    assert asked == [("high", "cuda")] * 2
    with pytest.raises(RequestError, match=r"matmul_precision=medium .* experiment\.train_device=cpu"):
        precision.check_precision("medium", {"sampling_device": "cuda", "train_device": "cpu"})


@pytest.mark.parametrize("name", ["low", 32, None])
def test_an_unknown_precision_is_refused_before_anything_is_built(name: object) -> None:
    cfg = compose(["algorithm=ippo", f"matmul_precision={'null' if name is None else name}"], return_hydra_config=True)
    with pytest.raises(RequestError, match="highest, high, medium"):
        check_config(cfg, cfg.hydra.runtime.choices)


def test_whether_products_are_rounded_is_found_by_one_and_leaves_the_precision_alone() -> None:
    assert not precision.rounds_products("highest", "cpu")
    with RoundedProducts():
        assert precision.rounds_products("medium", "cpu")
    assert torch.get_float32_matmul_precision() == "highest"


# What a run does with it


class Precisions(Callback):
    """Notes the precision that batches are collected, trained on and evaluated with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def _see(self, *_: Any, **__: Any) -> None:
        self.seen.add(torch.get_float32_matmul_precision())

    on_batch_collected = on_train_step = on_evaluation_end = _see


@pytest.mark.usefixtures("any_processor")
@pytest.mark.parametrize("algorithm", ["himppo", "qmix"])
def test_every_part_of_a_run_has_its_precision_and_all_that_is_kept_says_so(
    algorithm: str, tiny_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose([*tiny_overrides, f"algorithm={algorithm}", "matmul_precision=medium"], return_hydra_config=True)
    noted, single = Precisions(), SingleRun(cfg, cfg.hydra.runtime.choices)

    def watch(experiment: Any) -> Any:
        torch.set_float32_matmul_precision("highest")  # as another experiment of this process would
        experiment.callbacks.append(noted)
        noted.experiment = experiment
        return single.watch(experiment)

    experiment = train(cfg, cfg.hydra.runtime.choices, watch=watch)
    record = single.save_record(experiment, None)
    assert noted.seen == {"medium"}
    run = Path(experiment.folder_name)
    assert load_run_config(run)[0].matmul_precision == "medium"
    assert record.provenance["matmul_precision"] == record.config["matmul_precision"] == "medium"
    assert "matmul_precision=medium" in record.variant
    assert "precision of matrix products: medium" in capsys.readouterr().out.splitlines()
    torch.set_float32_matmul_precision("highest")
    load_trained(run, 2).close()
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.usefixtures("any_processor")
def test_a_resumed_run_has_the_precision_that_it_began_with_and_says_when_it_is_changed(runs: Any) -> None:
    folder = runs.run("algorithm=ippo", "experiment.max_n_frames=160", "matmul_precision=high")
    torch.set_float32_matmul_precision("highest")
    resumed = runs.build_resumed(folder, "experiment.max_n_frames=240")
    assert (torch.get_float32_matmul_precision(), resumed.resumed_with_changes) == ("high", False)
    resumed.close()
    changed = runs.build_resumed(folder, "experiment.max_n_frames=240", "matmul_precision=highest")
    assert (torch.get_float32_matmul_precision(), changed.resumed_with_changes) == ("highest", True)
    changed.close()


@pytest.mark.usefixtures("any_processor")
def test_experiments_of_a_program_take_it_too(tmp_path: Path) -> None:
    arguments = {"algorithm_config": algorithm_config("himppo_2l"), "model_config": mlp_config(), "seed": 0}
    config = TinyExperiment(tmp_path).config()
    experiment = benchmarl_himpo.Experiment(
        vmas_task("sampling"), **arguments, config=config, matmul_precision="medium"
    )
    assert torch.get_float32_matmul_precision() == "medium"
    assert load_run_config(Path(experiment.folder_name))[0].matmul_precision == "medium"
    experiment.close()


# What is left in float32, and what is not


def change_of_log_prob(experiment: Any, batch: TensorDictBase) -> torch.Tensor:
    """How far the log-probabilities of a batch are from those it was collected with, before the first update."""
    keys, changes = HierarchyKeys("agents"), []
    for level, actor in enumerate(experiment.policy[0].actors):
        rows = batch[experiment.policy[0].hierarchy.layout.is_due(batch.get(keys.clock).squeeze(-1), level)]
        with torch.no_grad():
            log_prob = actor.get_dist(rows.clone()).log_prob(rows.get(keys[level].action))
        changes.append((log_prob - rows.get(keys[level].log_prob)).abs().flatten())
    return torch.cat(changes)


@pytest.fixture
def wide(make_experiment: Any) -> Any:
    """Default HiMPPO with its own networks, about to collect 800 frames of sampling."""

    def make(*overrides: str) -> Any:
        widths = ["model.num_cells=[256,256]", "critic_model.num_cells=[256,256]"]
        frames = ["experiment.on_policy_n_envs_per_worker=40", "experiment.on_policy_collected_frames_per_batch=800"]
        unsaved = ["experiment.evaluation=false", "experiment.checkpoint_interval=0"]
        return make_experiment("algorithm=himppo", "task=vmas/sampling", *widths, *frames, *unsaved, *overrides)

    return make


def test_ppo_begins_with_ratios_of_one_up_to_the_error_of_rounded_products(wide: Any) -> None:
    """Collection and training round the same factors.

    What float32 sums in another order becomes another bfloat16 number only where it was next to a border: in few of 256
    activations, each of which then differs by one step. If one of the two did not round, all of them would differ.
    """
    experiment = wide()
    with RoundedProducts() as rounded:
        batch = next(iter(experiment.collector))
        change = change_of_log_prob(experiment, batch)
    assert rounded.n_products > 100
    assert change.max() < BF16_STEP / 4 < change_of_log_prob(experiment, batch).max()


@needs_bf16
def test_the_same_on_a_processor_that_multiplies_bfloat16(wide: Any) -> None:
    experiment = wide("matmul_precision=medium")
    assert change_of_log_prob(experiment, next(iter(experiment.collector))).max() < BF16_STEP / 4


def test_advantages_take_no_product_of_matrices_and_everything_kept_is_float32(make_experiment: Any) -> None:
    shape, flags = (4, 10, 3, 1), torch.zeros(4, 10, 3, 1, dtype=torch.bool)
    reward, value, next_value = torch.randn(3, *shape)
    intervals = Intervals((torch.arange(10) % 5 == 0).expand(4, 10))
    with RoundedProducts() as rounded:
        for gamma, lmbda in ((0.99, 0.95), (0.99, 0.0)):
            interval_advantage(reward, value, next_value, flags, flags, flags[..., 0, 0], intervals, gamma, lmbda)
    assert rounded.n_products == 0
    with RoundedProducts():
        experiment = make_experiment("algorithm=himppo", "experiment.loggers=[]")
        experiment.run()
    kept = [*experiment.losses["agents"].parameters()]
    for optimizer in experiment.optimizers["agents"].values():
        kept += [value for state in optimizer.state.values() for value in state.values()]
    assert {value.dtype for value in kept} == {torch.float32}

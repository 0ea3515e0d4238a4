"""Updates that a CUDA graph can replay: BenchMARL's, on fixed shapes, with nothing read back from the device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarl.experiment import Experiment
from tensordict import TensorDictBase
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarl_himpo.harness.checks import RequestError
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs.training import check_config
from benchmarl_himpo.harness.runs.update import UpdateStep, check_fixed_loss, check_update_step

ROOT = Path(__file__).parents[3]
DEPENDENT_ON_DATA = {
    getattr(torch.ops.aten, name)
    for name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_consecutive")
}
"""What reads numbers back from the device, or gives shapes that depend on them."""
ALGORITHMS = ["himppo", "himppo_flat", "himppo_paper", "himppo_dial", "ippo", "mappo"]
QUICK = [("himppo", "true"), ("himppo_dial", "true"), ("ippo", "true"), ("himppo", "false")]


class Operations(TorchDispatchMode):
    """Notes every operation with the shapes of what it takes, and which of them read numbers back."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[Any, ...]]] = []
        self.reads: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        flat = [x for arg in args for x in (arg if isinstance(arg, (list, tuple)) else [arg])]
        tensors = [x for x in flat if isinstance(x, torch.Tensor)]
        self.seen.append((str(func), tuple(tuple(x.shape) for x in tensors)))
        by_mask = func.overloadpacket is torch.ops.aten.index and any(x.dtype == torch.bool for x in tensors[1:])
        if func.overloadpacket in DEPENDENT_ON_DATA or by_mask:
            self.reads.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def prepare(make_experiment: Callable[..., Experiment]) -> Callable[..., tuple[Experiment, list[TensorDictBase]]]:
    """Build an experiment and give it with the minibatches of its first batch."""

    def prepare(algorithm: str, *overrides: str) -> tuple[Experiment, list[TensorDictBase]]:
        experiment = make_experiment(f"algorithm={algorithm}", "experiment.loggers=[]", *overrides)
        (group,) = experiment.group_map
        batch = experiment.algorithm.process_batch(group, next(iter(experiment.collector)))
        buffer = experiment.replay_buffers[group]
        buffer.extend(batch.reshape(-1))
        return experiment, [buffer.sample() for _ in range(2)]

    return prepare


def step_of(experiment: Experiment) -> UpdateStep:
    return experiment._make_step("agents")


def parameters(experiment: Experiment) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in experiment.losses["agents"].parameters()]


@pytest.fixture
def as_recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Lets code run as if a CUDA graph were being recorded."""

    @contextmanager
    def recorded() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
            yield

    return recorded


@pytest.mark.parametrize(
    ("algorithm", "clip"),
    [
        pytest.param(algorithm, clip, marks=() if (algorithm, clip) in QUICK else pytest.mark.slow)
        for clip in ("true", "false")
        for algorithm in ALGORITHMS
    ],
)
def test_a_recorded_step_is_benchmarls_own(algorithm: str, clip: str, prepare: Any, as_recorded: Any) -> None:
    overrides = [f"experiment.clip_grad_norm={clip}", "experiment.clip_grad_val=0.05", "experiment.lr=0"]
    results, gradients = [], []
    for is_own in (False, True):
        torch.manual_seed(0)
        experiment, minibatches = prepare(algorithm, *overrides)
        kept = keep_gradients(experiment)
        for minibatch in minibatches:
            torch.manual_seed(0)  # IPPO samples entropies
            experiment.replay_buffers["agents"].sample = lambda minibatch=minibatch: minibatch
            with as_recorded() if is_own else nullcontext():
                step = step_of(experiment)
                results.append(step(minibatch) if is_own else experiment._optimizer_loop("agents"))
        gradients.append(kept)
    for benchmarls, own in zip(results[:2], results[2:], strict=True):
        assert set(own.keys()) == set(benchmarls.keys())
        assert any(name.startswith("grad_norm") and value > 0.1 for name, value in own.items())
        for name, value in own.items():
            torch.testing.assert_close(
                value, benchmarls.get(name), rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )
    assert len(gradients[0]) == len(gradients[1]) > 10
    for benchmarls, own in zip(*gradients, strict=True):
        torch.testing.assert_close(own, benchmarls, rtol=0, atol=1e-6)


def keep_gradients(experiment: Experiment) -> list[torch.Tensor]:
    """Gradients, clipped, that the optimisers follow from here on."""
    kept: list[torch.Tensor] = []

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        params = [param for group in optimizer.param_groups for param in group["params"]]
        kept.extend(param.grad.clone() for param in params if param.grad is not None)

    for optimizer in experiment.optimizers["agents"].values():
        optimizer.register_step_pre_hook(keep)
    return kept


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_recorded_step_reads_nothing_back_and_does_the_same_for_every_minibatch(
    algorithm: str, prepare: Any, as_recorded: Any
) -> None:
    experiment, minibatches = prepare(algorithm)
    step = step_of(experiment)
    step(minibatches[0])  # Adam's first step makes its state
    operations = []
    for minibatch in minibatches:
        with as_recorded(), Operations() as found:
            step(minibatch)
        operations.append(found.seen)
        assert found.reads == []
    assert len(operations[0]) > 100
    assert operations[0] == operations[1]


def test_an_eager_step_reads_back_and_has_shapes_of_its_own(prepare: Any) -> None:
    experiment, minibatches = prepare("himppo")
    operations = []
    for minibatch in minibatches:
        with Operations() as found:
            step_of(experiment)(minibatch)
        operations.append(found.seen)
        assert "aten._local_scalar_dense.default" in found.reads
    assert operations[0] != operations[1]


# What is refused


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["update_step=fast"], "eager, cudagraphs"),
        (["update_step=cudagraphs"], "experiment.train_device=cpu"),
        (["update_step=cudagraphs", "algorithm=qmix"], "on-policy"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(overrides: list[str], named: str) -> None:
    cfg = compose(["algorithm=ippo", "experiment.train_device=cpu", *overrides], return_hydra_config=True)
    with pytest.raises(RequestError, match=named):
        check_config(cfg, cfg.hydra.runtime.choices)


@pytest.mark.parametrize("option", ["n_epochs=[2,1,1]", "listening_coef=0.5", "initial_goal_interval=[10,2]"])
def test_graphs_need_a_loss_that_stays_the_same(option: str, make_experiment: Any) -> None:
    experiment = make_experiment("algorithm=himppo", f"algorithm.{option}", "experiment.on_policy_n_minibatch_iters=2")
    with pytest.raises(RequestError, match=f"algorithm.{option.split('=')[0]}"):
        check_fixed_loss(experiment.algorithm)
    check_fixed_loss(make_experiment("algorithm=himppo").algorithm)


@pytest.mark.parametrize(("size", "fits"), [(2000, True), (2500, False)])
def test_graphs_need_minibatches_of_one_size(size: int, fits: bool, tiny_experiment_config: Any) -> None:
    config = tiny_experiment_config
    config.train_device = "cuda:0"
    config.on_policy_collected_frames_per_batch, config.on_policy_minibatch_size = 12_000, size
    with nullcontext() if fits else pytest.raises(RequestError, match="on_policy_minibatch_size=2500"):
        check_update_step("cudagraphs", config, on_policy=True)


# A whole run, in a process of its own: the graph module takes tensordicts out of PyTree for good

RUNS = """
import sys
from pathlib import Path
import torch
from support.tiny_overrides import SAMPLING, SMALL
import benchmarl_himpo
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs import training

benchmarl_himpo.register()
training.check_update_step = lambda *_: None
folder = f"experiment.save_folder={sys.argv[1]}"
unlogged = ["experiment.evaluation=false", "experiment.loggers=[]"]

def run(*overrides):
    cfg = compose([*SMALL, *SAMPLING, "algorithm=himppo", folder, *unlogged, *overrides], return_hydra_config=True)
    experiment = training.load_experiment(cfg, cfg.hydra.runtime.choices)
    experiment.run()
    return experiment

def are_equal(one, other):
    pairs = zip(one.losses["agents"].parameters(), other.losses["agents"].parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in pairs)

length = "experiment.max_n_frames=160"
eager, graph = (run(length, f"update_step={step}") for step in ("eager", "cudagraphs"))
half = run("experiment.max_n_frames=80", "update_step=cudagraphs")
cfg, choices = training.config_to_continue(Path(half.folder_name), [length])
resumed = training.load_experiment(cfg, choices, resumes=True)
resumed.run()
changed = training.config_to_continue(Path(half.folder_name), [length, "update_step=eager"])
changed = training.load_experiment(*changed, resumes=True)
print(are_equal(eager, graph), are_equal(graph, resumed), are_equal(eager, half))
print(type(graph._graphs["agents"]).__name__, resumed.resumed_exactly, changed.resumed_with_changes)
"""


@pytest.mark.slow
def test_a_run_trains_and_resumes_through_the_graph_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUNS, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.split()[-6:] == ["True", "True", "False", "CudaGraphModule", "True", "True"], done.stderr[-2000:]

"""Evaluation: the same episodes for everybody, transfer between team sizes, results as table and file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from scipy import stats
from support.trained_runs import train

from benchmarl_himpo.harness.commands import audit, evaluate
from benchmarl_himpo.harness.evaluation.episodes import load_trained, play
from benchmarl_himpo.harness.runs import CheckpointError
from benchmarl_himpo.harness.statistics import estimate_difference, estimate_mean


def test_the_same_seed_plays_the_same_episodes_and_leaves_random_numbers_alone(himppo_run: Path) -> None:
    experiment = load_trained(himppo_run, n_episodes=4)
    torch.manual_seed(5)
    first = play(experiment, seed=1)
    after = torch.rand(1)
    again, other = play(experiment, seed=1), play(experiment, seed=2)
    assert torch.equal(first.per_agent, again.per_agent)
    assert not torch.equal(first.per_agent, other.per_agent)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert first.per_agent.shape == first.team.shape == (4,)
    torch.testing.assert_close(first.team, 3 * first.per_agent)


def test_the_policy_is_the_one_that_was_trained(himppo_run: Path) -> None:
    experiment = load_trained(himppo_run, n_episodes=2)
    state = torch.load(himppo_run / "checkpoints" / "checkpoint_160.pt", weights_only=True)
    saved = state["policy"]
    for name, parameter in experiment.policy.named_parameters():
        assert torch.equal(parameter, saved[name])


@pytest.mark.parametrize("n_agents", [2, 5])
def test_another_number_of_agents_keeps_the_parameters(n_agents: int, himppo_run: Path) -> None:
    trained = load_trained(himppo_run, n_episodes=2)
    moved = load_trained(himppo_run, 2, [f"task.n_agents={n_agents}"])
    for a, b in zip(trained.policy.parameters(), moved.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    assert play(moved, seed=1).per_group["agents"].shape == (2, n_agents)


def test_a_film_of_another_team_size_needs_no_critic_of_a_method_without_hierarchy(tmp_path: Path) -> None:
    """MAPPO's critic has the observations of a team of one size; only a hierarchy's values are drawn."""
    run = train(tmp_path / "own", "algorithm=mappo")
    moved = load_trained(run, 1, ["task.n_agents=5"], with_losses=True)
    assert play(moved, seed=1).per_group["agents"].shape == (1, 5)


def test_parameters_that_do_not_fit_are_named(tmp_path: Path) -> None:
    run = train(tmp_path / "own", "algorithm=ippo", "experiment.share_policy_params=false")
    with pytest.raises(CheckpointError, match="does not fit this task: its parameter"):
        load_trained(run, 2, ["task.n_agents=5"])


def test_nothing_is_written_to_a_run(himppo_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in himppo_run.rglob("*")}
    play(load_trained(himppo_run, n_episodes=2), seed=1)
    assert before == {path: path.stat().st_mtime_ns for path in himppo_run.rglob("*")}


# Statistics


def test_intervals_are_students() -> None:
    values, reference = torch.tensor([1.0, 2.0, 4.0, 7.0]), torch.tensor([1.0, 1.0, 1.0, 2.0])
    estimate = estimate_mean(values, 0.9)
    assert estimate.value == 3.5
    half_width = stats.t.ppf(0.95, 3) * stats.sem(values.numpy())
    assert (estimate.low, estimate.high) == pytest.approx((3.5 - half_width, 3.5 + half_width))
    difference = estimate_difference(values, reference, 0.9)
    interval = stats.ttest_rel(values.numpy(), reference.numpy()).confidence_interval(0.9)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert estimate_mean(torch.ones(3), 0.9).low == 1.0
    with pytest.raises(ValueError, match="must have equal shapes"):
        estimate_difference(values, reference[:2], 0.9)


# The command


def test_the_transfer_matrix(himppo_run: Path, qmix_run: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "evaluation.json"
    runs = [str(himppo_run.parent), str(qmix_run)]
    evaluate.main([*runs, "task.n_agents=3,5", "episodes=3", f"output={output}"])
    said = capsys.readouterr().out
    assert "| sum over agents | task.n_agents=3 | task.n_agents=5 |" in said
    results = json.loads(output.read_text())["results"]
    assert [(r["run"], r["overrides"]) for r in results] == [
        (run.name, [f"task.n_agents={n}"]) for run in (himppo_run, qmix_run) for n in (3, 5)
    ]
    for result in results:
        assert len(result["episodes"]["team"]) == 3
        assert f"{result['team']['value']:.2f}" in said


def test_the_audit_as_table_and_file(himppo_run: Path, capsys) -> None:
    audit.main([str(himppo_run), "episodes=3"])
    said = capsys.readouterr().out
    assert "| level | perturbation | return | effect |" in said
    assert "level 2: " in said
    (result,) = json.loads((himppo_run / "audit.json").read_text())["results"]
    assert len(result["rows"]) == 14
    (himppo_run / "audit.json").unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "rounds=3"], "rounds"),
        (["RUN", "episodes=1"], "episodes=1 must be 2 or more"),
        (["RUN", "episodes=many"], "episodes=many must be a whole number"),
        (["RUN", "audit=true"], "audit is no option of this command"),
        (["RUN", "video=true"], "video is no option of this command"),
        (["RUN", "episodes=3", "output=film.mp4"], "output=film.mp4 must end in .json"),
        (["RUN", "episodes=3", "confidence=95"], "confidence=95"),
        (["RUN", "episodes=3", "task.agents=3"], "agents"),
        (["RUN", "episodes=3", "model.num_cells=[8,9]"], "does not fit this task"),
        (["episodes=3"], "give at least one folder"),
        (["nowhere", "episodes=3"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_evaluated_ends_with_a_sentence(arguments: list[str], message: str, himppo_run: Path) -> None:
    with pytest.raises(SystemExit) as exit_info:
        evaluate.main([str(himppo_run) if argument == "RUN" else argument for argument in arguments])
    assert message in str(exit_info.value.code)


@pytest.mark.parametrize("option", ["evaluation_episodes=7", "render=true", "save_folder=x", "loggers=[csv]"])
def test_options_of_a_run_that_playing_sets_itself_are_refused(option: str, himppo_run: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"^experiment\.{option.partition('=')[0]} has no effect"):
        load_trained(himppo_run, n_episodes=2, overrides=[f"experiment.{option}"])

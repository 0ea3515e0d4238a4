"""Reference returns: scores between them, the script and the bound on small worlds, and the numbers that are stored."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from benchmarl.environments import VmasTask
from support.smax import needs_smax
from tensordict import TensorDict

from benchmarl_himpo.environments import accelerate
from benchmarl_himpo.harness.commands import reference_returns as command
from benchmarl_himpo.harness.reference_returns import mpe_scripts, vmas_scripts
from benchmarl_himpo.harness.reference_returns.measurement import measure_reference_returns
from benchmarl_himpo.harness.reference_returns.reference_returns import ReferenceReturns, load_reference_returns
from benchmarl_himpo.harness.reference_returns.sampling_scripts import act_greedily, bound_returns


def make_env(n_envs: int, **changes):
    task = VmasTask.SAMPLING.get_from_yaml()
    task.config.update(changes)
    return accelerate(task).get_env_fun(num_envs=n_envs, continuous_actions=True, seed=0, device="cpu")()


def test_scores_lie_between_reference_returns() -> None:
    assert ReferenceReturns(2.0, {"slow": 7.0, "fast": 12.0}, 22.0).normalise(np.array([2.0, 12.0, 22.0])).tolist() == [
        0.0,
        1.0,
        2.0,
    ]
    assert ReferenceReturns(2.0, {}, 22.0).normalise(np.array([12.0])).tolist() == [0.5]
    with pytest.raises(ValueError, match="need a scripted policy or an upper bound"):
        ReferenceReturns(2.0)


def test_labels_find_the_reference_returns_of_their_task() -> None:
    table = load_reference_returns()
    seven = table.tasks["vmas/sampling[n_agents=7]"]
    assert table.of("vmas/sampling") == table.tasks["vmas/sampling"] != seven
    assert table.of("vmas/sampling[max_n_frames=960000; n_agents=7]") == seven
    assert table.of("vmas/sampling[evaluation_episodes=64]") == table.of("vmas/sampling")
    assert table.of("vmas/sampling[lidar_range=0.5]") is None
    discrete = table.of("vmas/sampling[max_n_frames=960000; prefer_continuous_actions=false]")
    assert discrete == table.tasks["vmas/sampling[prefer_continuous_actions=false]"] != table.of("vmas/sampling")
    assert table.of("vmas/sampling[prefer_continuous_actions=false; n_agents=7]") == seven  # none of its own


def test_the_script_heads_for_the_best_observed_point() -> None:
    """VMAS's own observation, where the best of the eight points is known by the density's gradient."""
    env = make_env(64, n_gaussians=1)
    td = env.reset()
    target = torch.stack(env.scenario.locs, dim=-2)  # [64, 1, 2]
    position = td["agents", "observation"][..., :2]
    inside = (position.abs() < 0.9).all(-1) & ((target - position).norm(dim=-1) > 0.2)
    action = act_greedily(td)["agents", "action"]
    towards = ((target - position) * action).sum(-1)
    assert inside.sum() > 50
    assert (towards[inside] > 0).all()


def test_the_script_takes_each_direction_in_turn() -> None:
    observation = torch.cat([torch.zeros(8, 1, 16), torch.eye(8).unsqueeze(1)], dim=-1)
    td = TensorDict({"agents": TensorDict({"observation": observation}, [8, 1])}, [8])
    offsets = [[1, 0], [-1, 0], [0, 1], [0, -1], [-1, -1], [1, -1], [-1, 1], [1, 1]]
    assert act_greedily(td)["agents", "action"].squeeze(1).tolist() == offsets


def test_no_return_exceeds_the_bound() -> None:
    """A team that may jump: the value of every cell's lower corner, best first, is below the bound and close to it."""
    env = make_env(4, n_agents=3)
    env.reset()
    scenario = env.scenario
    bound = bound_returns(scenario, max_steps=10)
    axis = torch.arange(scenario.n_x_cells) * scenario.grid_spacing - scenario.xdim
    corners = torch.cartesian_prod(axis, axis)
    for i in range(4):
        values = scenario.sample_single_env(corners, i)
        jumping = values.sort(descending=True).values[:30].sum() / 3
        assert 0.95 * bound[i] < jumping <= bound[i]
    assert (bound_returns(scenario, max_steps=1) <= 1.1).all()  # an agent's best cell is worth about 1
    everything = bound_returns(scenario, max_steps=10_000)  # more steps than cells: all there is
    torch.testing.assert_close(everything, bound_returns(scenario, max_steps=20_000))


def test_shared_rewards_make_the_return_of_each_agent_that_of_the_team() -> None:
    """Returns of all policies and the bound, on the same episodes."""
    own, shared = (
        measure_reference_returns(["task=vmas/sampling", f"task.shared_rew={kind}"], 20, seed=5)
        for kind in ("false", "true")
    )
    for name, reference in own.items():
        assert shared[name].per_agent.value == pytest.approx(3 * reference.per_agent.value, rel=1e-5), name


@pytest.mark.parametrize(("task", "slack"), [(VmasTask.NAVIGATION, 0.11), (VmasTask.BALANCE, 1.0)])
def test_a_team_that_is_at_its_goal_at_once_has_what_the_bound_says(task: VmasTask, slack: float) -> None:
    """Up to an agent's radius and a step of gravity."""
    env = task.get_from_yaml().get_env_fun(num_envs=8, continuous_actions=True, seed=0, device="cpu")()
    td = env.reset()
    bound = vmas_scripts.bound_returns(task.name.lower(), env.scenario).clone()
    if task is VmasTask.NAVIGATION:
        for agent in env.scenario.world.agents:
            agent.set_pos(agent.goal.state.pos, batch_index=None)
    else:
        goal = env.scenario.package.goal.state.pos
        offset = goal - env.scenario.package.state.pos
        for entity in (env.scenario.package, env.scenario.line, *env.scenario.world.agents):
            entity.set_pos(entity.state.pos + offset, batch_index=None)
    action = torch.zeros(*td["agents", "observation"].shape[:2], 2)
    reward = env.step(td.set(("agents", "action"), action))["next", "agents", "reward"].squeeze(-1).mean(-1)
    assert (reward <= bound + 1e-5).all()
    torch.testing.assert_close(reward, bound, rtol=0, atol=slack)


NEEDS_MPE = pytest.mark.skipif(find_spec("mpe2") is None, reason="needs the extra pettingzoo")


@pytest.mark.parametrize(
    "task",
    [
        "vmas/sampling",
        "vmas/balance",
        pytest.param("lbf/foraging_2s_10x10_3p_3f", marks=pytest.mark.slow),
        *(pytest.param(f"vmas/{name}", marks=pytest.mark.slow) for name in ("navigation", "discovery", "transport")),
        *(pytest.param(f"lbfws/{name}", marks=pytest.mark.slow) for name in ("easy", "medium", "hard")),
        *(pytest.param(f"mpe/{name}", marks=[pytest.mark.slow, NEEDS_MPE]) for name in mpe_scripts.TARGETS),
        *(pytest.param(f"smax/smacv2_{n}_units", marks=[pytest.mark.slow, needs_smax]) for n in (5, 10)),
        pytest.param("traffic/grid4x4", marks=pytest.mark.slow),
    ],
)
def test_the_stored_reference_returns_are_what_is_measured(task: str) -> None:
    """On fewer episodes than stored, at five times the standard error."""
    overrides, n_episodes = [f"task={task}"], 60
    if task.startswith("traffic/"):
        if find_spec("sumo_rl") is None:
            pytest.skip("SUMO is not installed: pip install 'benchmarl_himpo[traffic]'")
        overrides, n_episodes = [*overrides, "experiment=traffic"], 4  # each of them a process
    found = measure_reference_returns(overrides, n_episodes, seed=5)
    stored = load_reference_returns().tasks[task]
    returns = {"random": stored.random, **stored.scripts, "upper_bound": stored.upper_bound}
    for name, reference in found.items():
        metrics = {metric: policies[name] for metric, policies in stored.metrics.items() if name in policies}
        assert set(reference.metrics) == set(metrics)
        pairs = [(reference.per_agent, returns[name]), *((reference.metrics[m], value) for m, value in metrics.items())]
        for estimate, value in pairs:
            margin = 2.5 * (estimate.high - estimate.low) / 2
            assert value == pytest.approx(estimate.value, abs=margin + 0.005), name
    assert set(found) == {name for name, value in returns.items() if value is not None}


@pytest.mark.parametrize("is_continuous", [True, False])
def test_the_script_of_spread_sends_agents_where_all_ways_together_are_shortest(is_continuous: bool) -> None:
    """Agents at (0, 0) and (1, 0), landmarks at (1, 0) and (0, 1): the first one goes up, the second one stays."""
    seen = [[0, 0, 0, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 0, -1, 1]]  # velocity, position, landmarks as seen from there
    agents = TensorDict({"observation": torch.tensor(seen).float()}, [2])
    drawn = torch.full((2, 5), 0.5) if is_continuous else torch.tensor([3, 2])
    policies = mpe_scripts.scripted_policies("simple_spread", lambda td: td.set(("agent", "action"), drawn.clone()))
    action = policies["assigned"](TensorDict({"agent": agents}, []))["agent", "action"]
    expected = [[0.5, 0, 0, 0, 1], [0.5, 0, 0, 0, 0]] if is_continuous else [4, 0]
    assert action.tolist() == expected
    assert mpe_scripts.scripted_policies("simple_tag", lambda td: td) == {}


def test_the_script_of_reference_goes_where_the_other_one_sees_and_says_what_is_random() -> None:
    """Of 50 actions, a word and a movement, the word is left alone."""
    landmarks = [1, 0, -1, 0, 0, -1]  # right, left, below
    seen = [[0, 0, *landmarks, 0, 0, 1], [0, 0, *landmarks, 0, 1, 0]]  # the other one's colour is the last three
    agents = TensorDict({"observation": torch.tensor(seen).float()}, [2])
    drawn = torch.tensor([7 * 5 + 2, 9 * 5 + 4])
    policies = mpe_scripts.scripted_policies("simple_reference", lambda td: td.set(("agent", "action"), drawn.clone()))
    action = policies["informed"](TensorDict({"agent": agents}, []))["agent", "action"]
    assert action.tolist() == [7 * 5 + 1, 9 * 5 + 3]  # left, down


@pytest.mark.slow
def test_the_script_does_the_same_with_discrete_actions() -> None:
    actions = "experiment.prefer_continuous_actions"
    continuous, discrete = (
        measure_reference_returns(["task=vmas/sampling", f"{actions}={kind}"], n_episodes=20, seed=5)
        for kind in ("true", "false")
    )
    assert discrete["greedy"] == continuous["greedy"]
    assert discrete["upper_bound"] == continuous["upper_bound"]
    random = discrete["random"].per_agent
    stored = load_reference_returns().tasks["vmas/sampling[prefer_continuous_actions=false]"]
    assert stored.random == pytest.approx(random.value, abs=2.5 * (random.high - random.low) / 2)


def test_the_command_measures_each_task(capsys) -> None:
    command.main(["task=vmas/wheel", "task.n_agents=2,3", "task.max_steps=3", "episodes=4"])
    said = capsys.readouterr().out
    assert "4 episodes, seed " in said
    for n_agents in (2, 3):
        assert f"| task=vmas/wheel task.n_agents={n_agents} task.max_steps=3 | random |" in said
    assert said.count("| - |") == said.count("| task=") == 2  # neither a script, a bound nor lives are known
    for arguments, message in {
        ("task=vmas/nothing",): "nothing",
        ("task=vmas/wheel", "episodes=1"): "2 or more",
    }.items():
        with pytest.raises(SystemExit, match=message):
            command.main(arguments)

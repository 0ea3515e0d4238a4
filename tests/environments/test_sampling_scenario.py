"""The accelerated sampling scenario against VMAS's own: the same numbers, flags and draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarl.environments import VmasTask
from tensordict import TensorDict
from torchrl.envs.libs.vmas import VmasEnv
from vmas.scenarios.sampling import Scenario

from benchmarl_himpo.environments import accelerate, is_accelerated
from benchmarl_himpo.environments.sampling_scenario import SamplingScenario

N_ENVS, MAX_STEPS = 4, 40
COMPARED = [("agents", "observation"), ("agents", "reward"), ("agents", "info", "agent_sample"), "done"]


def make_env(scenario: Scenario, n_envs: int = N_ENVS, **kwargs: Any) -> VmasEnv:
    return VmasEnv(
        scenario=scenario, num_envs=n_envs, seed=0, device="cpu", clamp_actions=True, max_steps=MAX_STEPS, **kwargs
    )


def play(scenario: Scenario, n_agents: int, **kwargs: Any) -> dict[Any, torch.Tensor]:
    """Two episodes from one seed, with partial resets in the first: all that the environment says, step by step."""
    env = make_env(scenario, n_agents=n_agents, **kwargs)
    env.set_seed(7)
    generator = torch.Generator().manual_seed(1)
    records, flags = [], []
    for episode in range(2):
        td = env.reset()
        for step in range(MAX_STEPS if episode == 0 else 10):
            td["agents", "action"] = torch.rand(N_ENVS, n_agents, 2, generator=generator) * 3 - 1.5
            td = env.step(td)["next"]
            records.append(td.clone())
            flags.append(scenario.sampled.clone())
            if episode == 0 and step in (5, 20):
                mask = torch.tensor([True, False, step == 20, False]).unsqueeze(-1)
                td = env.reset(td.set("_reset", mask))
                records.append(td.clone())
                flags.append(scenario.sampled.clone())
    told = {key: torch.stack([td.get(key) for td in records if key in td.keys(True)]) for key in COMPARED}
    return told | {"sampled": torch.stack(flags)}


OPTIONS: list[Any] = [
    pytest.param({"n_agents": 3, "shared_rew": False}, id="3 agents", marks=pytest.mark.slow),
    pytest.param({"n_agents": 1, "shared_rew": True}, id="1 agent, shared"),
    pytest.param({"n_agents": 7, "shared_rew": True}, id="7 agents, shared"),
    pytest.param(
        {"n_agents": 2, "xdim": 2, "ydim": 1, "cov": [0.05, 0.1], "n_gaussians": 2, "norm": False, "lidar_range": 0.5},
        id="other options",
        marks=pytest.mark.slow,
    ),
    *(
        pytest.param({"n_agents": n, "shared_rew": s}, id=f"{n} agents, shared {s}", marks=pytest.mark.slow)
        for n in range(1, 8)
        for s in (False, True)
        if (n, s) not in ((3, False), (1, True), (7, True))
    ),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_episodes_are_those_of_vmas(options: dict[str, Any]) -> None:
    """Same seed, same actions: equal to 1e-5 through full and partial resets, flags and dones exactly."""
    stock, ours = play(Scenario(), **options), play(SamplingScenario(), **options)
    assert ours["done"].any()
    assert (ours["agents", "reward"] > 0).any()
    assert torch.equal(ours["sampled"], stock["sampled"])
    assert torch.equal(ours["done"], stock["done"])
    for key in COMPARED[:-1]:
        torch.testing.assert_close(ours[key], stock[key], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def twins() -> tuple[VmasEnv, VmasEnv]:
    """VMAS's environment and ours in the same state: 64 teams of four."""
    envs = [
        make_env(scenario, n_envs=64, n_agents=4, shared_rew=False) for scenario in (Scenario(), SamplingScenario())
    ]
    for env in envs:
        env.set_seed(0)
        env.reset()
    return envs[0], envs[1]


def place(env: VmasEnv, position: torch.Tensor) -> None:
    """Put the agents somewhere, ``[64, 4, 2]``."""
    for i, agent in enumerate(env.agents):
        agent.set_pos(position[:, i], batch_index=None)


def tell(env: VmasEnv) -> TensorDict:
    """Rewards, then observations, as VMAS asks for them."""
    scenario = env.scenario
    reward = torch.stack([scenario.reward(agent) for agent in env.agents], dim=1)
    observation = torch.stack([scenario.observation(agent) for agent in env.agents], dim=1)
    return TensorDict({"reward": reward, "observation": observation, "sampled": scenario.sampled.clone()})


def test_points_on_the_borders_of_cells_fall_on_the_same_side(twins: tuple[VmasEnv, VmasEnv]) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        corner = torch.randint(-19, 20, (64, 4, 2), generator=generator)
        nudge = torch.tensor([-1e-7, 0.0, 1e-7])[torch.randint(0, 3, (64, 4, 2), generator=generator)]
        position = (corner * 0.05 + nudge).clamp(-0.975, 0.975)
        stock, ours = (place(env, position) or tell(env) for env in twins)
        assert torch.equal(ours["sampled"], stock["sampled"])
        torch.testing.assert_close(ours["reward"], stock["reward"], rtol=0, atol=1e-5)
        torch.testing.assert_close(ours["observation"], stock["observation"], rtol=0, atol=1e-5)


def test_a_cell_pays_the_first_agent_in_it(twins: tuple[VmasEnv, VmasEnv]) -> None:
    position = torch.tensor([0.32, 0.33]).expand(64, 4, 2).clone()
    position[:, 2] += 0.0001  # another point of the same cell
    position[:, 3] = torch.tensor([-0.52, 0.11])
    for env in twins:
        env.reset()
        place(env, position)
        reward = tell(env)["reward"]
        assert (reward[:, 0] > 0).all()
        assert (reward[:, 1:3] == 0).all()
        assert (reward[:, 3] > 0).all()
        assert (tell(env)["reward"] == 0).all()  # sampled now


@pytest.mark.parametrize("spread", [0.03, 0.2])
def test_rays_that_graze_are_those_of_vmas(spread: float, twins: tuple[VmasEnv, VmasEnv]) -> None:
    """Crowded teams, so that many rays hit or nearly miss."""
    _, env = twins
    generator = torch.Generator().manual_seed(0)
    n_hits = 0
    for _ in range(50):
        centre = torch.rand(64, 1, 2, generator=generator) - 0.5
        place(env, centre + (torch.rand(64, 4, 2, generator=generator) - 0.5) * spread)
        ours = torch.stack([env.scenario.observation(agent) for agent in env.agents], dim=1)[..., 4:16]
        stock = torch.stack([agent.sensors[0].measure() for agent in env.agents], dim=1)
        n_hits += int((stock < 0.2).sum())
        torch.testing.assert_close(ours, stock, rtol=0, atol=1e-5)
    assert n_hits > 1_000


@pytest.mark.slow
def test_the_plotted_density_is_that_of_vmas() -> None:
    points = torch.rand(50, 2) * 2.4 - 1.2  # also out of bounds
    densities = []
    for scenario in (Scenario(), SamplingScenario()):
        env = make_env(scenario, n_envs=2)
        env.set_seed(0)
        env.reset()
        densities.append(torch.stack([scenario.density_for_plot(i)(points.clone()) for i in range(2)]))
    torch.testing.assert_close(densities[1], densities[0], rtol=0, atol=1e-5)


def test_without_collisions_there_is_no_observation() -> None:
    with pytest.raises(ValueError, match=r"task\.collisions=true"):
        make_env(SamplingScenario(), collisions=False)


def test_accelerate_keeps_the_task_and_its_options() -> None:
    task = VmasTask.SAMPLING.get_from_yaml()
    task.config["n_agents"] = 5
    accelerated = accelerate(task)
    assert is_accelerated(accelerated)
    assert not is_accelerated(task)
    assert (accelerated.name, accelerated.config, accelerated.env_name()) == (task.name, task.config, task.env_name())
    env = accelerated.get_env_fun(num_envs=3, continuous_actions=False, seed=0, device="cpu")()
    assert isinstance(env.scenario, SamplingScenario)
    assert env.rollout(2)["agents", "observation"].shape == (3, 2, 5, 24)


def test_a_task_without_a_faster_simulation_stays_as_it_is() -> None:
    task = VmasTask.BALANCE.get_from_yaml()
    assert accelerate(task) is task

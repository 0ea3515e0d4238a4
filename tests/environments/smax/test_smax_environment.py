"""Battles are those of JaxMARL, many at once: the same numbers, seeds, partial resets, ends, deaths."""

from __future__ import annotations

import pytest
import torch
from support.smax import N_ENVS, make_smax, needs_smax
from tensordict import TensorDict, TensorDictBase
from torchrl.envs.utils import check_env_specs

from benchmarl_himpo.environments.smax.environment import SmaxEnv
from benchmarl_himpo.environments.smax.scripts import STOP, scripted_policies

pytestmark = needs_smax

N_AGENTS = 5


def step(env: SmaxEnv, action: torch.Tensor) -> TensorDictBase:
    return env.step(TensorDict({"agents": TensorDict({"action": action}, [N_ENVS, N_AGENTS])}, [N_ENVS]))["next"]


def play(seed: int = 0, policy: str = "nearest", n_steps: int = 100) -> TensorDictBase:
    """A rollout whose battles begin anew where they end. Shape ``[n_envs, n_steps]``."""
    env = make_smax(seed)
    return env.rollout(n_steps, scripted_policies(env)[policy], break_when_any_done=False)


def test_specs_hold() -> None:
    env = make_smax()
    check_env_specs(env)
    shapes = {key: tuple(spec.shape) for key, spec in env.full_observation_spec["agents"].items()}
    assert shapes == {
        "observation": (N_ENVS, 5, 127),
        "action_mask": (N_ENVS, 5, 10),
        "position": (N_ENVS, 5, 2),
        "alive": (N_ENVS, 5),
        "won": (N_ENVS, 5),
    }
    assert env.observation_spec["state"].shape == (N_ENVS, 120)


def test_battles_are_those_that_jaxmarl_plays_with_the_same_keys() -> None:
    """Its own functions, one battle at a time, from the keys that the environment draws."""
    import jax
    import jax.numpy as jnp
    from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario

    oracle = HeuristicEnemySMAX(scenario=map_name_to_scenario("smacv2_5_units"))
    env, keys = make_smax(seed=3), torch.Generator().manual_seed(3)

    def draw() -> list:
        words = torch.randint(-(2**31), 2**31, (N_ENVS, 2), dtype=torch.int32, generator=keys)
        return [jnp.asarray(row.numpy().view("uint32")) for row in words]

    def assert_same(out: TensorDictBase, battle: int, seen: dict, state: object) -> None:
        masks, agents, units = oracle.get_avail_actions(state), out["agents"][battle], state.state
        for i, agent in enumerate(oracle.agents):
            torch.testing.assert_close(agents["observation"][i], torch.tensor(seen[agent].tolist()))
            assert agents["action_mask"][i].int().tolist() == masks[agent].tolist()
        torch.testing.assert_close(out["state"][battle], torch.tensor(seen["world_state"].tolist()))
        torch.testing.assert_close(32 * agents["position"], torch.tensor(units.unit_positions[:N_AGENTS].tolist()))
        assert agents["alive"].tolist() == units.unit_alive[:N_AGENTS].tolist()

    draw()  # the battles that the environment is built with
    td = env.reset()
    battles = [oracle.reset(key) for key in draw()]
    for i, (seen, state) in enumerate(battles):
        assert_same(td, i, seen, state)
    policy, total = scripted_policies(env)["nearest"], torch.zeros(N_ENVS)
    for _ in range(30):
        action = policy(td)["agents", "action"]
        td = step(env, action)
        for i, key in enumerate(draw()):
            actions = dict(zip(oracle.agents, action[i].tolist(), strict=True))
            seen, state, reward, done, _ = oracle.step_env(key, battles[i][1], jax.tree.map(jnp.int32, actions))
            battles[i] = (seen, state)
            assert_same(td, i, seen, state)
            rewards = torch.tensor([float(reward[agent]) for agent in oracle.agents])
            torch.testing.assert_close(td["agents", "reward"][i, :, 0], rewards)
            assert td["done"][i].item() == bool(done["__all__"])
            total[i] += rewards[0]
        if td["done"].any():
            break
    assert (total > 0).all()


def test_the_same_seed_plays_the_same_battles_whatever_else_draws() -> None:
    first = play(seed=1, policy="random", n_steps=20)
    torch.rand(3)
    assert (first == play(seed=1, policy="random", n_steps=20)).all()
    assert not torch.equal(first["state"], play(seed=2, policy="random", n_steps=20)["state"])


def test_a_battle_begins_anew_while_the_other_goes_on() -> None:
    env, undisturbed = make_smax(seed=4), make_smax(seed=4)
    stop = torch.full((N_ENVS, N_AGENTS), STOP)
    for each in (env, undisturbed):
        each.reset()
        before = step(each, stop)
    td = env.reset(before.clone().set("_reset", torch.tensor([[True], [False]])))
    assert torch.equal(td["state"][1], before["state"][1])
    assert not torch.equal(td["state"][0], before["state"][0])
    assert td["agents", "alive"][0].all()
    undisturbed.generator.set_state(env.generator.get_state())  # a stock of new battles was drawn
    assert torch.equal(step(env, stop)["state"][1], step(undisturbed, stop)["state"][1])


def test_what_is_given_out_can_be_written_to() -> None:
    env, other = make_smax(seed=5), make_smax(seed=5)
    for each in (env, other):
        each.reset()
    for _ in range(2):
        out = step(env, torch.full((N_ENVS, N_AGENTS), 1))
        same = step(other, torch.full((N_ENVS, N_AGENTS), 1))
        assert (out == same).all()
        for tensor in out.values(True, True):
            tensor.zero_()


def test_battles_end_by_death_and_are_won_by_the_living() -> None:
    rollout = play(n_steps=250)
    after, alive = rollout["next"], rollout["next", "agents", "alive"]
    enemies = after["state"][..., :100].unflatten(-1, (10, 10))[..., 5:, 0] > 0  # JaxMARL zeroes what is dead
    is_decided = ~alive.any(-1) | ~enemies.any(-1)
    assert torch.equal(after["terminated"].squeeze(-1), is_decided)
    assert torch.equal(after["done"], after["terminated"] | after["truncated"])
    assert not (after["terminated"] & after["truncated"]).any()
    won = after["agents", "won"]
    assert torch.equal(won, (~enemies.any(-1) & alive.any(-1)).unsqueeze(-1).expand_as(won))
    assert won.any()
    assert is_decided.sum() > 3


def test_running_out_of_time_is_a_truncation() -> None:
    """In the step after the hundredth, as JaxMARL counts."""
    env, stop = make_smax(), torch.full((N_ENVS, N_AGENTS), STOP)
    env.reset()
    for _ in range(3):
        step(env, stop)
    state = list(env._state)
    (clock,) = [i for i, leaf in enumerate(state) if leaf.tolist() == [3, 3]]
    state[clock] = torch.tensor([100, 99], dtype=torch.int32)
    env._state = tuple(state)
    out = step(env, stop)
    flags = {name: out[name].squeeze(-1).tolist() for name in ("done", "terminated", "truncated")}
    assert flags == {"done": [True, False], "terminated": [False, False], "truncated": [True, False]}


def test_the_dead_may_only_stop_see_nothing_and_share_the_teams_reward() -> None:
    rollout = play(n_steps=100)
    agents, after = rollout["agents"], rollout["next", "agents"]
    dead = ~agents["alive"]
    assert dead.any()
    only_stop = torch.arange(10) == STOP
    assert (agents["action_mask"][dead] == only_stop).all()
    assert (agents["observation"][dead] == 0).all()
    assert torch.equal(after["reward"], after["reward"][..., :1, :].expand_as(after["reward"]))
    assert after["reward"].squeeze(-1)[dead].max() > 0
    gone = ~after["alive"] & ~rollout["next", "done"]
    stays = ~rollout["agents", "alive"][:, 1:] | ~gone[:, :-1]
    assert stays.all()  # until a new battle begins


def test_functions_are_compiled_once_for_all_environments_of_a_size() -> None:
    envs = [make_smax(seed) for seed in range(3)]
    for env in envs:
        env.rollout(3)
    (simulator,) = {env.simulator for env in envs}
    sizes = {simulator.begin_compiled._cache_size(), simulator.step_compiled._cache_size()}
    assert sizes == {1}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_battles_are_played_on_a_gpu() -> None:
    env = SmaxEnv(make_smax().simulator, N_ENVS, 0, "cuda")
    check_env_specs(env)
    assert env.rollout(10)["next", "agents", "reward"].device.type == "cuda"

"""Runs an exported bundle. Needs only torch; the example below needs vmas too.

    python run_bundle.py --n-envs 32        # in the folder of a bundle: play its task in a bare VMAS loop

In a program of your own::

    bundle = Bundle("path/of/the/bundle")
    state = bundle.start(n_envs=1)                   # clock, clustering, goals, memories: yours
    outputs, state = bundle.step(entries, state)     # entries by name, see bundle.json; outputs["action"]
    state = bundle.restart(state, done)              # where an episode ended
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
"""What is held from step to step: ``clock [B]``, ``parent_index [B, n_agents]``, ``centroids [B, n_clusters, 2]``,
``goal_<level> [B, edges, goal_dim]``; of levels that remember, ``seen_<level>_<entry> [B, decisions, n_agents, ...]``,
``seen_by_<level> [B, decisions, n_agents]`` and ``memory_state_<level> [B, nodes, size]``. Empty where there is one
level."""


class Bundle:
    """The policy of one agent group.

    Args:
        folder: the folder of the bundle.

    Attributes:
        info: content of ``bundle.json``.
        functions: the step functions by name: ``clustering`` and ``level_0`` upwards. Each is stateless, takes and
            returns a dictionary of tensors, with the names, shapes and dtypes of ``info["functions"]``.

    Raises:
        RuntimeError: if this version of torch cannot read the bundle.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.info: dict[str, Any] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        self.functions: dict[str, torch.nn.Module] = {}
        for name, function in self.info["functions"].items():
            try:
                self.functions[name] = torch.export.load(folder / function["file"]).module()
            except Exception as error:
                raise RuntimeError(
                    f"{folder / function['file']} cannot be read: it is damaged, or needs torch "
                    f"{self.info['versions']['torch']}, which wrote it (this is torch {torch.__version__})"
                ) from error

    def start(self, n_envs: int) -> State:
        """The initial state of ``n_envs`` teams: zeros."""
        return {
            name: torch.zeros(n_envs, *entry["shape"][1:], dtype=getattr(torch, entry["dtype"]))
            for name, entry in self.info["state"].items()
        }

    def restart(self, state: State, where: Tensor) -> State:
        """Reset the state of some teams. ``where``: shape ``[B]``, bool."""
        return {name: value.masked_fill(where.reshape(-1, *[1] * (value.ndim - 1)), 0) for name, value in state.items()}

    @torch.no_grad()
    def step(self, entries: dict[str, Tensor], state: State) -> tuple[dict[str, Tensor], State]:
        """Step the hierarchy, top level first; levels that decide in no environment are not called.

        Args:
            entries: entries of the agents, by name. Shape ``[B, n_agents, ...]`` each.
            state: the state before this step; it is not modified.

        Returns:
            The workers' most likely ``action`` with the parameters of its distribution, and the state for the next
            step.
        """
        state = dict(state)
        outputs: dict[str, Tensor] = {}
        for name, function in self.info["functions"].items():  # in the order of execution
            if function["period"] > 1 and not (state["clock"] % function["period"] == 0).any():
                continue
            known = {**entries, **state}
            outputs = self.functions[name]({key: known[key] for key in function["inputs"]})
            state.update({key: value for key, value in outputs.items() if key in state})
        if "clock" in state:
            state["clock"] = state["clock"] + 1
        return outputs, state


def play_vmas(bundle: Bundle, n_envs: int, seed: int) -> Tensor:
    """Run one episode of the bundle's VMAS task in each of ``n_envs`` environments, with only torch and vmas.

    Returns:
        Return of every agent up to the episode's end. Shape ``[n_envs, n_agents]``.

    Raises:
        ValueError: if the bundle is for another environment, or controls only some of the agents.
    """
    import vmas

    task = bundle.info["task"]
    if task["environment"] != "vmas":
        raise ValueError(f"this loop plays tasks of vmas, and the bundle is for {task['environment']}/{task['name']}")
    env = vmas.make_env(
        task["name"],
        num_envs=n_envs,
        device="cpu",
        continuous_actions=task["continuous_actions"],
        clamp_actions=True,
        seed=seed,
        **task["config"],
    )
    if [agent.name for agent in env.agents] != bundle.info["agents"]:
        raise ValueError(
            f"this loop plays one group, and {task['name']} has more: the agents must be all in one bundle"
        )
    observation, state = env.reset(), bundle.start(n_envs)
    is_over = torch.zeros(n_envs, dtype=torch.bool)
    returns = torch.zeros(n_envs, len(env.agents))
    while not is_over.all():
        outputs, state = bundle.step({"observation": torch.stack(observation, dim=1)}, state)
        action = outputs["action"].reshape(n_envs, len(env.agents), -1)
        observation, reward, done, _ = env.step(list(action.unbind(dim=1)))
        returns += torch.stack(reward, dim=1) * ~is_over.unsqueeze(-1)
        is_over = is_over | done
        for index in done.nonzero().flatten().tolist():
            env.reset_at(index)
        if done.any():
            state = bundle.restart(state, done)
            observation = env.get_from_scenario(
                get_observations=True, get_rewards=False, get_infos=False, get_dones=False
            )[0]
    return returns


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="Play an exported bundle in a bare VMAS loop.")
    parser.add_argument("folder", nargs="?", default=Path(__file__).parent, type=Path, help="the bundle; here")
    parser.add_argument("--n-envs", default=32, type=int, help="environments, one episode each")
    parser.add_argument("--seed", default=0, type=int, help="seed of the environments")
    options = parser.parse_args()
    returns = play_vmas(Bundle(options.folder), options.n_envs, options.seed)
    print(f"return per agent: {returns.mean():.3f} (mean over {options.n_envs} episodes)")


if __name__ == "__main__":
    main()

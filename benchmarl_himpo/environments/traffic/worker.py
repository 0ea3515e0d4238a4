"""The process of one SUMO simulation; libsumo supports one simulation per process.

This script is started by its path, so that neither torch nor this package is imported. It reads pickled requests,
tuples of a name and arguments, from standard input and writes pickled answers to standard output; SUMO's output goes to
standard error. The script exits at the end of its input, so it never outlives its parent process.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

NETWORK = "RESCO/grid4x4/grid4x4"
"""Files of the network and of its traffic, below ``nets`` of sumo-rl."""


class Simulation:
    """One simulation and its network.

    Args:
        delta_seconds: seconds between two actions.
        yellow_seconds: seconds of yellow between two greens.
        min_green_seconds: least seconds of green.
        episode_seconds: length of an episode, in seconds.
        reward: reward function of sumo-rl, by name.
    """

    def __init__(
        self, delta_seconds: int, yellow_seconds: int, min_green_seconds: int, episode_seconds: int, reward: str
    ) -> None:
        import sumo

        os.environ["SUMO_HOME"] = sumo.SUMO_HOME  # of libsumo's own wheel; read at the next import
        os.environ["LIBSUMO_AS_TRACI"] = "1"
        import sumo_rl

        files = Path(sumo_rl.__file__).parent / "nets" / NETWORK
        self.net_file = f"{files}.net.xml"
        self.env = sumo_rl.SumoEnvironment(
            net_file=self.net_file,
            route_file=f"{files}_1.rou.xml",
            num_seconds=episode_seconds,
            delta_time=delta_seconds,
            yellow_time=yellow_seconds,
            min_green=min_green_seconds,
            reward_fn=reward,
            add_system_info=False,
            add_per_agent_info=False,
            sumo_warnings=False,
        )

    def describe(self) -> dict[str, Any]:
        """Constants of the network with ``n`` signals, in the order of ``names``, of ``p`` greens and ``l`` lanes each.

        Returns:
            ``names``; ``observation_size``; ``position``, coordinates in metres, ``[n][2]``; ``edges``, whether a road
            leads to a signal from another, ``[n][n]``; ``serves``, whether a green serves a lane, ``[n][p][l]``;
            ``program``, the network's own program as pairs of a green and its seconds, yellow included.
        """
        import sumolib

        net = sumolib.net.readNet(self.net_file, withPrograms=True)
        signals = {name: self.env.traffic_signals[name] for name in self.env.ts_ids}
        roads = {(edge.getToNode().getID(), edge.getFromNode().getID()) for edge in net.getEdges()}
        serves, programs = [], []
        for name, lights in signals.items():
            greens = [phase.state for phase in lights.green_phases]
            links = [(lane.getID(), link) for lane, _, link in net.getTLS(name).getConnections()]
            serves.append(
                [
                    [any(of == lane and green[link] in "Gg" for of, link in links) for lane in lights.lanes]
                    for green in greens
                ]
            )
            program: list[list[float]] = []
            for phase in next(iter(net.getTLS(name).getPrograms().values())).getPhases():
                if phase.state in greens:
                    program.append([greens.index(phase.state), phase.duration])
                elif program:
                    program[-1][1] += phase.duration
            programs.append(program)
        return {
            "names": list(signals),
            "observation_size": next(iter(signals.values())).observation_space.shape[0],
            "position": [net.getNode(name).getCoord() for name in signals],
            "edges": [[(name, other) in roads for other in signals] for name in signals],
            "serves": serves,
            "program": programs,
        }

    def reset(self, seed: int) -> dict[str, Any]:
        """Begin an episode; returns ``observation``, ``[n][...]``, and ``waiting``, ``[n]``, halting vehicles."""
        observations = self.env.reset(seed=seed)
        return self._see(observations[0] if isinstance(observations, tuple) else observations)

    def step(self, action: list[int]) -> dict[str, Any]:
        """Set the greens until the next action; returns ``reward``, ``[n]``, and the entries of :meth:`reset`."""
        observations, rewards, *_ = self.env.step(dict(zip(self.env.ts_ids, action, strict=True)))
        return {**self._see(observations), "reward": [float(rewards[name]) for name in self.env.ts_ids]}

    def _see(self, observations: dict[str, Any]) -> dict[str, Any]:
        names = self.env.ts_ids
        return {
            "observation": [observations[name].tolist() for name in names],
            "waiting": [self.env.traffic_signals[name].get_total_queued() for name in names],
        }


def main() -> None:
    """Answer requests, beginning with ``("build", options)``, until the input ends or a request fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    simulation: Any = None
    while True:
        try:
            name, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            if name == "build":
                simulation, answer = Simulation(**arguments[0]), None
            else:
                answer = getattr(simulation, name)(*arguments)
            failure = ""
        except Exception as error:
            answer, failure = None, f"{type(error).__name__}: {error}"
        try:
            pickle.dump((answer, failure), answers)
            answers.flush()
        except BrokenPipeError:
            return
        if failure:
            return


if __name__ == "__main__":
    main()

"""Play Level-Based Foraging with Survival with scripts that see the whole board: anchors for learned policies.

    python benchmarks/foraging_scripts.py
    python benchmarks/foraging_scripts.py --scripts greedy coalition --tasks lbfws/hard --episodes 1000

Prints the table of benchmarks/README.md: mean return of the team with its standard error, and mean life of an agent in
env steps. The task is a reconstruction: its survival rules and constants are ours.
"""

from __future__ import annotations

import argparse

from benchmarl.environments import task_config_registry

import benchmarl_himpo
from benchmarl_himpo.environments.lbf.scripts import SCRIPTS, play

TASKS = ("lbfws/easy", "lbfws/medium", "lbfws/hard")


def main() -> None:
    """Play every script on every task and print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripts", nargs="+", choices=SCRIPTS, default=list(SCRIPTS), help="default: all")
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="default: %(default)s")
    parser.add_argument("--episodes", type=int, default=256, help="episodes of each script and task")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--device", default="cpu", help="where the boards are")
    settings = parser.parse_args()
    benchmarl_himpo.register()
    print(f"| script | {' | '.join(settings.tasks)} |\n|---|{'---|' * len(settings.tasks)}")
    for script in settings.scripts:
        cells = []
        for name in settings.tasks:
            task = task_config_registry[name].get_task()
            env = task.get_env_fun(settings.episodes, False, settings.seed, settings.device)()
            team_return, life = play(env, SCRIPTS[script])
            error = team_return.std() / len(team_return) ** 0.5
            cells.append(f"{team_return.mean():.2f} ± {error:.2f} / {life.double().mean():.0f}")
        print(f"| {script} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

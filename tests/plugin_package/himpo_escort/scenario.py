"""A scenario of VMAS with two groups: porters go to the middle, guards to the porters."""

import torch
from vmas.simulator.core import Agent, World
from vmas.simulator.scenario import BaseScenario


class Escort(BaseScenario):
    def make_world(self, batch_dim, device, n_guards):
        world = World(batch_dim, device)
        for name in ["porter_0", "porter_1", *(f"guard_{i}" for i in range(n_guards))]:
            world.add_agent(Agent(name))
        return world

    def reset_world_at(self, env_index=None):
        n_envs = self.world.batch_dim if env_index is None else 1
        for agent in self.world.agents:
            agent.set_pos(2 * torch.rand(n_envs, 2, device=self.world.device) - 1, env_index)

    def observation(self, agent):
        return torch.cat([agent.state.pos, agent.state.vel], dim=-1)

    def reward(self, agent):
        porters = torch.stack([porter.state.pos for porter in self.world.agents[:2]]).mean(0)
        goal = porters if agent.name.startswith("guard") else torch.zeros_like(porters)
        return -torch.linalg.vector_norm(agent.state.pos - goal, dim=-1)

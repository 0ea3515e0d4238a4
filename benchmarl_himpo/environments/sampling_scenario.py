"""VMAS's ``sampling`` with identical results at a fraction of the cost.

VMAS evaluates a density object per agent, neighbouring point and Gaussian, casts rays agent by agent and searches the
grid's maximum in a Python double loop. Here each of these is one batched expression. Random draws, rules and options
are VMAS's, and tests compare every observation, reward and flag with the original.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from vmas.scenarios.sampling import Scenario
from vmas.simulator.core import Agent, World

N_RAYS, FIRST_RAY_ANGLE = 12, 0.05
"""Rays of VMAS's lidar for this scenario, and the angle of the first one in radians."""

NEIGHBOUR_ORDER = (7, 1, 5, 3, 0, 6, 2, 8)
"""Order in which VMAS observes a 3 x 3 neighbourhood with x outermost: +x, -x, +y, -y, then --, +-, -+, ++."""

MIN_SQUARED_CHORD = 1e-8
"""VMAS's lower bound of the squared half chord of a ray, which keeps the root defined if the ray misses its sphere."""


class SamplingScenario(Scenario):
    """VMAS's ``sampling``, evaluated for all agents, neighbouring points and Gaussians at once.

    Takes the options of VMAS's scenario. VMAS requests rewards and observations agent by agent, in order; both are
    computed for the whole team at the request of the first agent.
    """

    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> World:
        """Build VMAS's world.

        Raises:
            ValueError: without collisions, because agents then have no lidar and VMAS's observation is not defined.
        """
        if not kwargs.get("collisions", True):
            raise ValueError(
                "task.collisions=false takes the agents' lidar away, without which VMAS's sampling has no observation: "
                "set task.collisions=true"
            )
        world = super().make_world(batch_dim, device, **kwargs)
        variance = torch.tensor(self.covs, device=device)
        self.exponent = -0.5 / variance  # [n_gaussians]
        self.amplitude = 1 / (2 * torch.pi * variance)  # [n_gaussians]
        self.extent = torch.tensor([[self.xdim], [self.ydim]], device=device)
        self.reach = torch.tensor([[self.x_semidim], [self.y_semidim]], device=device)
        self.half_cells = torch.tensor([[self.n_x_cells / 2], [self.n_y_cells / 2]], device=device)
        self.offsets = torch.tensor([-self.grid_spacing, 0.0, self.grid_spacing], device=device)
        self.ray_angles = torch.linspace(FIRST_RAY_ANGLE, 2 * torch.pi + FIRST_RAY_ANGLE, N_RAYS + 1, device=device)[
            :N_RAYS
        ]
        self.is_other = ~torch.eye(self.n_agents, dtype=torch.bool, device=device)
        return world

    def reset_world_at(self, env_index: int | None = None) -> None:
        """Draw new Gaussians and agents, in all environments or in one, in VMAS's order of draws."""
        rows = slice(None) if env_index is None else slice(env_index, env_index + 1)
        for i, loc in enumerate(self.locs):
            new_loc = self._draw(rows, self.xdim, self.ydim)
            self.locs[i] = loc.index_copy(0, torch.arange(len(loc), device=loc.device)[rows], new_loc)
        self.sampled[rows] = False
        self.nomrlize_pdf(env_index)
        limit = self.reach.squeeze(-1)
        for agent in self.world.agents:
            position = self._draw(rows, self.agent_xspawn_range, self.agent_yspawn_range)
            agent.set_pos(position.clamp(-limit, limit), batch_index=env_index)
        self._share_out(self._sample(self._positions(), norm=self.norm))

    def nomrlize_pdf(self, env_index: int | None = None) -> None:
        """Find the largest total density on the grid, the unit of rewards, in all environments or in one."""
        rows = slice(None) if env_index is None else slice(env_index, env_index + 1)
        x = torch.arange(-self.xdim, self.xdim, self.grid_spacing, device=self.world.device)
        y = torch.arange(-self.ydim, self.ydim, self.grid_spacing, device=self.world.device)
        both = pad_sequence([x, y], batch_first=True, padding_value=torch.inf)  # padding is out of bounds
        density, _ = self._lattice(both, torch.stack(self.locs, dim=-2)[rows])
        self.max_pdf[rows] = density.flatten(-2).amax(-1)

    def sample(self, pos: Tensor, update_sampled_flag: bool = False, norm: bool = True) -> Tensor:
        """Value of one point per environment; optionally marks its cell as sampled. Shape ``[B, 2]`` to ``[B]``."""
        return self._sample(pos.unsqueeze(1), norm, update_sampled_flag).squeeze(1)

    def sample_single_env(self, pos: Tensor, env_index: int, norm: bool = True) -> Tensor:
        """Value of many points in one environment. Shape ``[P, 2]`` to ``[P]``."""
        return self._sample(pos.reshape(1, -1, 2), norm, rows=slice(env_index, env_index + 1)).squeeze(0)

    def reward(self, agent: Agent) -> Tensor:
        """Value that an agent, or with ``shared_rew`` the team, samples at this step. Shape ``[B]``."""
        if agent is self.world.agents[0]:
            self._share_out(self._sample(self._positions(), norm=self.norm, update_sampled_flag=True))
        return self.sampling_rew if self.shared_rew else agent.sample

    def observation(self, agent: Agent) -> Tensor:
        """Position, velocity, lidar and the values of the eight neighbouring points. Shape ``[B, 24]``."""
        if agent is self.world.agents[0]:
            self.team_observation = self._observe()
        return self.team_observation[:, self.world.agents.index(agent)]

    def extra_render(self, env_index: int = 0) -> list:
        """Draw VMAS's geometries, with the lidar readings of the rendered step."""
        for agent in self.world.agents:
            agent.sensors[0].measure()
        return super().extra_render(env_index)

    def _positions(self) -> Tensor:
        """Positions of the team. Shape ``[B, n_agents, 2]``."""
        return torch.stack([agent.state.pos for agent in self.world.agents], dim=1)

    def _draw(self, rows: slice, x_range: float, y_range: float) -> Tensor:
        """Uniform points, x of all rows before y of all rows as VMAS draws them. Shape ``[rows, 2]``."""
        n_rows = len(range(*rows.indices(self.world.batch_dim)))
        draws = [torch.empty(n_rows, 1, device=self.world.device).uniform_(-r, r) for r in (x_range, y_range)]
        return torch.cat(draws, dim=-1)

    def _share_out(self, values: Tensor) -> None:
        """Store every agent's value for rewards and ``info``. Takes ``[B, n_agents]``."""
        self.sampling_rew = values.sum(-1)
        for agent, value in zip(self.world.agents, values.unbind(-1), strict=True):
            agent.sample = value

    def _sample(
        self, points: Tensor, norm: bool, update_sampled_flag: bool = False, rows: slice = slice(None)
    ) -> Tensor:
        """Value of points: their density, or zero out of bounds and in cells that were sampled before.

        Cells are marked in the order of points: the second of two points in one cell has no value. Takes points
        ``[rows, P, 2]`` of these environments, returns ``[rows, P]``, with ``norm`` relative to the grid's largest
        density.
        """
        locs = torch.stack(self.locs, dim=-2)[rows].unsqueeze(1)
        density, cell = self._lattice(points.unsqueeze(-1), locs)
        density, cell = density.flatten(-3), cell.flatten(-3)
        sampled = self.sampled[rows].flatten(1)
        taken = sampled.gather(1, cell)
        if update_sampled_flag:
            taken = taken | (cell.unsqueeze(-1) == cell.unsqueeze(-2)).tril(-1).any(-1)
            self.sampled[rows] = sampled.scatter(1, cell, True).view_as(self.sampled[rows])
        values = density.masked_fill(taken, 0.0)
        return values / self.max_pdf[rows, None] if norm else values

    def _lattice(self, coordinate: Tensor, locs: Tensor) -> tuple[Tensor, Tensor]:
        """Total density on the points of lattices, from one axis at a time: an isotropic Gaussian is a product.

        A coordinate's cell is computed by VMAS's operations in float32, so points on a border fall on the same side.
        Takes coordinates along x and along y, ``[*N, 2, P]``, and centres of the Gaussians, ``[*N, n_gaussians, 2]``.
        Returns the density, zero out of bounds, and the index of the point's cell, ``[*N, P, P]`` each.
        """
        inside = coordinate.abs() <= self.extent
        coordinate = coordinate.clamp(-self.reach, self.reach)
        column, row = (coordinate / self.grid_spacing + self.half_cells).to(torch.long).unbind(-2)
        squared = (coordinate.unsqueeze(-1) - locs.mT.unsqueeze(-2)).square()
        along_x, along_y = ((self.exponent * squared).exp() * inside.unsqueeze(-1)).unbind(-3)
        cell = column.unsqueeze(-1) * self.n_y_cells + row.unsqueeze(-2)
        return (along_x * self.amplitude) @ along_y.mT, cell

    def _observe(self) -> Tensor:
        """Observations of the team. Shape ``[B, n_agents, 24]``."""
        pos = self._positions()
        vel = torch.stack([agent.state.vel for agent in self.world.agents], dim=1)
        rot = torch.stack([agent.state.rot for agent in self.world.agents], dim=1)
        lidar = self._read_lidars(pos, self.ray_angles + rot)
        density, cell = self._lattice(pos.unsqueeze(-1) + self.offsets, torch.stack(self.locs, dim=-2).unsqueeze(1))
        taken = self.sampled.flatten(1).gather(1, cell.flatten(1)).view_as(cell)
        values = density.masked_fill(taken, 0.0) / self.max_pdf[:, None, None, None]
        return torch.cat([pos, vel, lidar, values.flatten(-2)[..., NEIGHBOUR_ORDER]], dim=-1)

    def _read_lidars(self, pos: Tensor, angle: Tensor) -> Tensor:
        """Distance along rays to the nearest other agent. Shapes ``[B, n, 2]``, ``[B, n, n_rays]`` to the latter.

        Rays are cast only between agents within the lidar's range, which most pairs are not.
        """
        radius = self.world.agents[0].shape.radius
        offset = pos.unsqueeze(-3) - pos.unsqueeze(-2)  # [B, n, n, 2], from agent i to agent j
        is_near = (offset.square().sum(-1) < (self.lidar_range + 2 * radius) ** 2) & self.is_other
        env, agent, other = is_near.nonzero(as_tuple=True)
        reading = angle.new_full((*is_near.shape, N_RAYS), self.lidar_range)
        reading[is_near] = cast_rays(pos[env, agent], angle[env, agent], pos[env, other], radius, self.lidar_range)
        return reading.amin(-2)


def cast_rays(origin: Tensor, angle: Tensor, centre: Tensor, radius: float, max_range: float) -> Tensor:
    """Distance along rays to a sphere, in the order of operations of VMAS's physics.

    The order matters: where a ray grazes a sphere, rounding decides between a hit and a miss.

    Args:
        origin: origin of the rays. Shape ``[*N, 2]``.
        angle: directions of the rays, in radians. Shape ``[*N, n_rays]``.
        centre: centre of the sphere. Shape ``[*N, 2]``.
        radius: radius of the sphere, in world units.
        max_range: maximal reading, also the reading of a ray that misses, in world units.

    Returns:
        Shape ``[*N, n_rays]``, in world units.
    """
    cos, sin = angle.cos(), angle.sin()
    x, y = origin.unsqueeze(-2).unbind(-1)  # [*N, 1]
    centre_x, centre_y = centre.unsqueeze(-2).unbind(-1)  # [*N, 1]
    middle_x, middle_y = x + cos * (max_range / 2), y + sin * (max_range / 2)
    along = (middle_x - centre_x) * cos + (middle_y - centre_y) * sin
    closest_x, closest_y = middle_x - along * cos, middle_y - along * sin  # [*N, n_rays]
    distance = ((centre_x - closest_x).square() + (centre_y - closest_y).square()).sqrt()
    squared_chord = torch.tensor(radius, device=origin.device) ** 2 - distance.square()
    half_chord = torch.where(squared_chord > 0, squared_chord, MIN_SQUARED_CHORD).sqrt()
    depth = ((closest_x - x).square() + (closest_y - y).square()).sqrt()
    is_hit = (distance < radius) & ((centre_x - x) * cos + (centre_y - y) * sin > 0)
    return torch.where(is_hit, depth - half_chord, max_range).clamp(max=max_range)

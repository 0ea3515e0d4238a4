"""Renders boards into a tensor; needs no display and no drawing library."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
from benchmarl_himpo.environments.lbf.state import State

CELL = 40
"""Side of a cell, in pixels; even, as video encoders require."""
GROUND, LINE, FOOD, DEAD, EMPTY_BAR, ENERGY, INK = (
    (246, 244, 238),
    (214, 210, 200),
    (62, 142, 65),
    (150, 150, 150),
    (200, 60, 50),
    (60, 170, 70),
    (255, 255, 255),
)
CLUSTERS = (
    (31, 105, 180),
    (226, 111, 20),
    (126, 70, 160),
    (190, 30, 95),
    (20, 140, 140),
    (110, 80, 50),
)
"""Colours of the agents by cluster, repeated if there are more clusters."""
DIGITS = (
    "111101101101111",
    "010110010010111",
    "111001111100111",
    "111001111001111",
    "101101111001001",
    "111100111001111",
    "111100111101111",
    "111001001001001",
    "111101111101111",
    "111101111001111",
)
"""The digits on three by five pixels, row by row."""


def render_board(board: State, config: LbfConfig, clusters: Tensor | None = None) -> Tensor:
    """Draw a board: foods as squares and agents as discs, each with its level.

    With survival there is an energy bar below each living agent, and a cross where one died.

    Args:
        board: one board, entries without batch dimension.
        config: options of the game.
        clusters: cluster of each agent, shown by its colour; None: one colour. Shape ``[n_agents]``, long.

    Returns:
        The picture. Shape ``[n_rows * 40, n_columns * 40, 3]``, uint8, on the CPU.
    """
    n_rows, n_columns = config.field_size
    picture = torch.tensor(GROUND, dtype=torch.uint8).repeat(n_rows * CELL, n_columns * CELL, 1)
    picture[::CELL] = picture[:, ::CELL] = torch.tensor(LINE, dtype=torch.uint8)
    for (row, column), level in zip(board.food_position.tolist(), board.food_level.tolist(), strict=True):
        if level > 0:
            cell = _cell(picture, row, column)
            _fill(cell[6:-5, 6:-5], FOOD)
            _write(cell, level)
    share = board.energy / (config.max_energy if isinstance(config, LbfwsConfig) else 1.0)
    colours = [0] * config.n_agents if clusters is None else clusters.tolist()
    agents = zip(
        board.agent_position.tolist(),
        board.agent_level.tolist(),
        board.alive.tolist(),
        share.tolist(),
        colours,
        strict=True,
    )
    for (row, column), level, alive, energy, colour in sorted(agents, key=lambda agent: agent[2]):  # the dead below
        cell = _cell(picture, row, column)
        if not alive:
            _cross(cell)
            continue
        cell[_disc()] = torch.tensor(CLUSTERS[colour % len(CLUSTERS)], dtype=torch.uint8)
        _write(cell, level)
        if isinstance(config, LbfwsConfig):
            _fill(cell[-5:-2, 4:-3], EMPTY_BAR)
            _fill(cell[-5:-2, 4 : 4 + round(energy * (CELL - 7))], ENERGY)
    return picture


def _cell(picture: Tensor, row: int, column: int) -> Tensor:
    return picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]


def _fill(area: Tensor, colour: tuple[int, int, int]) -> None:
    area[:] = torch.tensor(colour, dtype=torch.uint8)


def _axes() -> tuple[Tensor, Tensor]:
    """Distance of each pixel of a cell from the middle, down and right."""
    middle = torch.arange(CELL) - CELL / 2
    return middle.unsqueeze(-1), middle.unsqueeze(0)


def _disc() -> Tensor:
    down, right = _axes()
    return (down + 1) ** 2 + right**2 <= (CELL * 0.38) ** 2


def _cross(cell: Tensor) -> None:
    down, right = _axes()
    is_stroke = (((down - right).abs() <= 2) | ((down + right).abs() <= 2)) & (down.abs() <= 11) & (right.abs() <= 11)
    cell[is_stroke] = torch.tensor(DEAD, dtype=torch.uint8)


def _write(cell: Tensor, number: int) -> None:
    """Write a number into the middle of a cell."""
    glyphs = [torch.tensor([[int(bit) for bit in DIGITS[int(digit)]]]).view(5, 3).bool() for digit in str(number)]
    text = torch.cat([torch.nn.functional.pad(glyph, (0, 1)) for glyph in glyphs], dim=1)[:, :-1]
    text = text.repeat_interleave(3, dim=0).repeat_interleave(3, dim=1)
    top, left = (CELL - text.shape[0]) // 2 - 1, (CELL - text.shape[1]) // 2
    cell[top : top + text.shape[0], left : left + text.shape[1]][text] = torch.tensor(INK, dtype=torch.uint8)

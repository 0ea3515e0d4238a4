"""Draw an episode as film and picture: scene and hierarchy left, goals and rewards of every level right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarl_himpo.harness.films.episode import Episode, GroupEpisode
from benchmarl_himpo.harness.output import keep_older
from benchmarl_himpo.harness.rendering.encode import write_gif, write_mp4, write_png

SIZE, DOTS_PER_INCH = (12.8, 7.2), 100
"""Width and height of a frame in inches, and its resolution: 1280 x 720 pixels."""

NODE_MARKERS = "o^sDP"
"""Markers of the levels, workers first; higher levels have the last one."""

STEPS_PER_SECOND = 10
"""Playing speed: slow enough to see decisions."""

Update = Callable[[int], None]
"""Takes a step, and updates the drawing to it."""


def write_film(episode: Episode, stem: Path, moment: int | None) -> list[Path]:
    """Write an episode as mp4 and GIF, and one of its steps, counted from 1, as PNG; None: the middle one.

    Older files of these names are kept, see :func:`~benchmarl_himpo.harness.output.keep_older`.

    Raises:
        ValueError: if the episode ends before that step.
    """
    figure = EpisodeFigure(episode)
    moment = (len(figure) + 1) // 2 if moment is None else moment
    if moment > len(figure):
        raise ValueError(f"moment={moment} lies behind the end of the episode, which has {len(figure)} steps")
    video = torch.stack([figure.draw(step) for step in tqdm(range(len(figure)), desc="frames")])
    mp4, gif, png = files = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("mp4", "gif", "png")]
    for file in files:
        keep_older(file)
    write_mp4(video, mp4, STEPS_PER_SECOND)
    write_gif(video, gif, STEPS_PER_SECOND)
    write_png(video[moment - 1], png)
    return files


class EpisodeFigure:
    """A figure of an episode that can be moved to any of its steps.

    The scene shows every worker in the colour of its sub-manager, with lines from each node to its superior. On the
    right: per upper level, all goals of the episode in their first two principal components, those in effect in colour;
    for categorical goals, the goal of each node over the episode; then the reward of each level, with a tick at each
    decision.

    Args:
        episode: the episode.
    """

    def __init__(self, episode: Episode) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.episode = episode
        self.figure = Figure(figsize=SIZE, dpi=DOTS_PER_INCH, layout="constrained")
        self.canvas = FigureCanvasAgg(self.figure)
        left, right = self.figure.subfigures(1, 2, width_ratios=[0.54, 0.46])
        self.updates: list[Update] = [self._draw_scene(left.subplots())]
        self._draw_panels(right)
        self.canvas.draw()
        self.figure.set_layout_engine("none")  # nothing moves from step to step

    def __len__(self) -> int:
        """Steps of the episode."""
        return len(self.episode.scenes)

    def draw(self, step: int) -> Tensor:
        """Draw one step. Returns the picture, shape ``[3, height, width]``, uint8."""
        for update in self.updates:
            update(step)
        self.canvas.draw()
        picture = torch.from_numpy(np.array(self.canvas.buffer_rgba()))  # [height, width, 4]
        return picture[..., :3].permute(2, 0, 1)

    def _draw_scene(self, axes: Any) -> Update:
        scenes = self.episode.scenes
        image = axes.imshow(scenes[0].picture, extent=scenes[0].extent, interpolation="antialiased")
        axes.set_axis_off()
        overlays = [
            _Overlay(axes, group, [scene.positions[name] for scene in scenes], colour_offset)
            for name, (_, group, colour_offset) in zip(self.episode.groups, self._groups(), strict=True)
            if scenes[0].extent is not None and group.graph is not None
        ]

        def update(step: int) -> None:
            image.set_data(scenes[step].picture)
            if scenes[step].extent is not None:
                image.set_extent(scenes[step].extent)
            for overlay in overlays:
                overlay.update(step)
            axes.set_title(f"step {step + 1} of {len(scenes)}", loc="left", fontsize="medium")

        return update

    def _draw_panels(self, figure: Any) -> None:
        groups = list(self._groups())
        n_goals = max(len(group.goals) for _, group, _ in groups)
        strips = [
            (name, group, level) for name, group, _ in groups for level in (*reversed(range(len(group.reward))), None)
        ]  # of a group from the top level down; None is the external reward
        grid = figure.add_gridspec(len(groups) * bool(n_goals) * 3 + len(strips), max(n_goals, 1))
        row = 0
        for name, group, colour_offset in groups:
            for column, goals in enumerate(group.goals):
                axes = figure.add_subplot(grid[row : row + 3, column])
                title = f"{name}goals of level {column + 1}"
                if goals.is_floating_point():
                    self.updates.append(_draw_vectors(axes, title, column + 1, goals, group, colour_offset))
                else:
                    self.updates.append(_draw_choices(axes, title, column + 1, goals.argmax(-1), group))
            row += 3 * bool(n_goals)
        for i, (name, group, level) in enumerate(strips):
            axes = figure.add_subplot(grid[row + i, :])
            axes.tick_params(labelbottom=i == len(strips) - 1, labelsize="x-small")
            self.updates.append(_draw_strip(axes, name, level, group))
        axes.set_xlabel("step", fontsize="small")

    def _groups(self) -> Iterator[tuple[str, GroupEpisode, int]]:
        """What the titles of a group begin with, the group, and the first of its colours."""
        colour_offset = 0
        for name, group in self.episode.groups.items():
            yield f"{name}: " if len(self.episode.groups) > 1 else "", group, colour_offset
            colour_offset += group.graph.n_nodes[0] if group.graph and group.graph.n_nodes else 1


class _Overlay:
    """The hierarchy of a group, drawn over the scene: nodes at the mean of their workers, lines to their superiors."""

    def __init__(self, axes: Any, group: GroupEpisode, positions: list[Tensor], colour_offset: int) -> None:
        assert group.graph is not None
        self.graph, self.colour_offset = group.graph, colour_offset
        place = torch.stack(positions)  # [T, n_agents, 2]
        n_levels = 1 + len(group.graph.n_nodes)
        self.places = [
            group.graph.pool(place, level).masked_fill(group.graph.n_workers(level).unsqueeze(-1) == 0, torch.nan)
            for level in range(n_levels)
        ]
        self.lines = [
            [axes.plot([], [], linewidth=2.0, zorder=2)[0] for _ in range(self.places[level].shape[1])]
            for level in range(n_levels - 1)
        ]
        self.nodes = [
            axes.scatter([], [], s=70 + 90 * min(level, 2), marker=_marker(level), edgecolors="black", zorder=9 - level)
            for level in range(n_levels)
        ]
        self.names = _number(axes, place.shape[1])

    def update(self, step: int) -> None:
        """Move nodes and lines to a step."""
        for name, place in zip(self.names, self.places[0][step].tolist(), strict=True):
            name.set_position(place)
        for level, nodes in enumerate(self.nodes):
            colours = _node_colours(self.graph, level, step, self.colour_offset)
            nodes.set_offsets(self.places[level][step].numpy())
            nodes.set_facecolors(colours)
            if level == len(self.lines):
                return
            above = self.places[level + 1][step, self.graph.parent_index[level][step]]
            for line, start, end, colour in zip(
                self.lines[level], self.places[level][step], above, colours, strict=True
            ):
                line.set_data(*torch.stack([start, end], dim=-1).tolist())
                line.set_color(colour)


def _draw_vectors(axes: Any, title: str, level: int, goals: Tensor, group: GroupEpisode, colour_offset: int) -> Update:
    """All goals of a level as grey dots, those in effect in the colour of their recipient."""
    assert group.graph is not None
    graph = group.graph
    points, share = principal_components(goals)
    sent = points[group.decides[level]].flatten(0, 1)
    axes.scatter(*sent.T.numpy(), s=6, color="lightgrey", zorder=1)
    now = axes.scatter([], [], s=70, edgecolors="black", zorder=2, marker=_marker(level - 1))
    labels = _number(axes, points.shape[1])
    axes.set_title(f"{title} ({share:.0%} of variance)", fontsize="small")
    axes.margins(0.12)
    axes.set(xticks=[], yticks=[])

    def update(step: int) -> None:
        now.set_offsets(points[step].numpy())
        now.set_facecolors(_node_colours(graph, level - 1, step, colour_offset))
        for label, point in zip(labels, points[step].tolist(), strict=True):
            label.set_position(point)

    return update


def _draw_choices(axes: Any, title: str, level: int, choices: Tensor, group: GroupEpisode) -> Update:
    """Categorical goal of every recipient, ``[T, E]``, a row each, with the frequencies of the most frequent goals."""
    sent = choices[group.decides[level]].flatten().bincount()
    first = [goal for goal in sent.argsort(descending=True)[:3].tolist() if sent[goal] > 0]
    often = [f"{goal}: {sent[goal] / sent.sum():.0%}" for goal in first]
    extent = (0.5, len(choices) + 0.5, choices.shape[1] - 0.5, -0.5)
    axes.imshow(choices.T.numpy(), cmap="tab20", vmin=0, vmax=19, aspect="auto", interpolation="nearest", extent=extent)
    axes.set_title(f"{title} (sent {', '.join(often)})", fontsize="small")
    axes.set_yticks(range(choices.shape[1]))
    axes.tick_params(labelsize="x-small")
    cursor = axes.axvline(1, color="black", linewidth=1.5)

    def update(step: int) -> None:
        cursor.set_xdata([step + 1, step + 1])
        axes.set_yticklabels([f"{i}: goal {goal}" for i, goal in enumerate(choices[step].tolist())])

    return update


def principal_components(goals: Tensor) -> tuple[Tensor, float]:
    """Project the goals of a level, ``[T, E, goal_dim]``, on their first two principal components.

    Returns:
        The projections, shape ``[T, E, 2]``, the second one zero for goals of size one; and the explained fraction of
        the variance, in [0, 1], 1 for constant goals.
    """
    centred = (goals - goals.mean((0, 1))).double()
    _, scale, directions = torch.linalg.svd(centred.flatten(0, 1), full_matrices=False)
    points = centred @ directions[:2].T
    total = scale.square().sum()
    share = (scale[:2].square().sum() / total).item() if total > 0 else 1.0
    return torch.nn.functional.pad(points, (0, 2 - points.shape[-1])).to(goals.dtype), share


def _draw_strip(axes: Any, name: str, level: int | None, group: GroupEpisode) -> Update:
    """The reward of a level over the episode, a line per edge; None: the external reward, a line per agent."""
    reward = group.external_reward if level is None else group.reward[level]
    steps = torch.arange(1, len(reward) + 1)
    axes.set_prop_cycle(color=_line_colours())
    lines = axes.step(steps, reward.numpy(), where="mid", linewidth=1.0)
    axes.set_xlim(0.5, len(reward) + 0.5)
    axes.set_title(f"{name}{_strip_title(level)}", fontsize="small", loc="left", pad=2)
    if level is None and len(lines) > 1:
        axes.legend(lines, range(len(lines)), fontsize="x-small", loc="upper left", ncols=len(lines), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    if level:
        ticks = steps[group.decides[level]].tolist()
        axes.vlines(ticks, 0.9, 1.0, transform=axes.get_xaxis_transform(), color="black", linewidth=1.0)
    cursor = axes.axvline(1, color="black", linewidth=0.8, linestyle=":")

    def update(step: int) -> None:
        cursor.set_xdata([step + 1, step + 1])
        if level:
            cursor.set_linewidth(2.5 if group.decides[level][step] else 0.8)

    return update


def _number(axes: Any, n: int) -> list[Any]:
    """Labels 0 to n - 1, to be moved on top of markers."""
    style: dict[str, Any] = {"fontsize": "x-small", "ha": "center", "va": "center", "color": "white", "zorder": 10}
    return [axes.text(0, 0, str(i), in_layout=False, **style) for i in range(n)]


def _strip_title(level: int | None) -> str:
    if level is None:
        return "external reward of each agent"
    return "level 0, workers: reward" if level == 0 else f"level {level}: reward per interval (ticks: decisions)"


def _line_colours() -> list[Any]:
    """Colours of agents and edges, different from the colours of sub-managers."""
    from matplotlib import colormaps

    return list(colormaps["Dark2"].colors)  # type: ignore[attr-defined]


def _node_colours(graph: Any, level: int, step: int, offset: int) -> list[Any]:
    """Workers and sub-managers in the colour of the sub-manager, everything above in grey."""
    from matplotlib import colormaps

    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    if level > 1 or not graph.n_nodes:
        return ["grey"] * (graph.n_nodes[level - 1] if level else graph.alive.shape[-1])
    nodes = graph.parent_index[0][step].tolist() if level == 0 else range(graph.n_nodes[0])
    return [colours[(offset + node) % len(colours)] for node in nodes]


def _marker(level: int) -> str:
    return NODE_MARKERS[min(level, len(NODE_MARKERS) - 1)]

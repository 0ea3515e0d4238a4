"""Write an episode as film and picture."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from benchmarl_himpo.harness.films.drawing import EpisodeFigure
from benchmarl_himpo.harness.films.episode import Episode
from benchmarl_himpo.harness.rendering.encode import write_gif, write_mp4, write_png

STEPS_PER_SECOND = 10
"""Playing speed: slow enough to see decisions."""


def write_film(episode: Episode, stem: Path, moment: int | None) -> list[Path]:
    """Write an episode as mp4 and GIF, and one of its steps, counted from 1, as PNG; None: the middle one.

    Raises:
        ValueError: if the episode ends before that step.
    """
    figure = EpisodeFigure(episode)
    moment = (len(figure) + 1) // 2 if moment is None else moment
    if moment > len(figure):
        raise ValueError(f"moment={moment} lies behind the end of the episode, which has {len(figure)} steps")
    video = torch.stack([figure.draw(step) for step in tqdm(range(len(figure)), desc="frames")])
    mp4, gif, png = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("mp4", "gif", "png"))
    write_mp4(video, mp4, STEPS_PER_SECOND)
    write_gif(video, gif, STEPS_PER_SECOND)
    write_png(video[moment - 1], png)
    return [mp4, gif, png]

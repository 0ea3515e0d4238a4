"""Films: what they show is what was played, and the files can be read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarl.experiment import Experiment
from PIL import Image

from benchmarl_himpo.environments.lbf.render import CLUSTERS
from benchmarl_himpo.harness.commands import film as command
from benchmarl_himpo.harness.evaluation.episodes import load_trained, play
from benchmarl_himpo.harness.films.drawing import EpisodeFigure, principal_components
from benchmarl_himpo.harness.films.episode import Episode, film_episode
from benchmarl_himpo.harness.rendering.display import RenderError, check_display
from benchmarl_himpo.harness.rendering.encode import write_gif, write_mp4

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(make_experiment: Callable[..., Experiment]) -> MakeRun:
    """Train for a tiny iteration: `make_run("algorithm=himppo", ...)`; skips where nothing can be drawn."""

    def make(*overrides: str) -> Path:
        short = ["experiment.max_n_frames=40", "experiment.evaluation=false"]
        experiment = make_experiment("task=vmas/sampling", *short, *overrides)
        try:
            check_display(experiment, "film")
        except RenderError as error:
            experiment.close()
            pytest.skip(f"cannot draw here: {error}")
        experiment.run()
        return Path(experiment.folder_name)

    return make


def film(run: Path) -> Episode:
    experiment = load_trained(run, n_episodes=1, with_losses=True)
    with closing(experiment):
        return film_episode(experiment, seed=3)


def decode(path: Path) -> list[torch.Tensor]:
    """Read a film back, one [height, width, 3] tensor per frame."""
    import av

    with av.open(str(path)) as container:
        return [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


# Parts


def test_goals_in_a_plane_keep_their_distances() -> None:
    plane = torch.linalg.qr(torch.randn(5, 2)).Q.T
    flat = torch.randn(7, 3, 2)
    points, share = principal_components(flat @ plane + 4.0)
    assert share == pytest.approx(1.0)
    torch.testing.assert_close(torch.pdist(points.flatten(0, 1)), torch.pdist(flat.flatten(0, 1)))
    spread = points.flatten(0, 1).var(0)
    assert spread[0] > spread[1]


def test_goals_of_one_number_and_goals_that_never_change() -> None:
    goals = torch.randn(6, 2, 1)
    points, share = principal_components(goals)
    torch.testing.assert_close(points[..., 0].abs(), (goals - goals.mean())[..., 0].abs())
    assert torch.equal(points[..., 1], torch.zeros(6, 2))
    assert share == pytest.approx(1.0)
    assert principal_components(torch.ones(4, 2, 3))[1] == 1.0


def test_files_keep_frames_in_order_and_colour(tmp_path: Path) -> None:
    video = torch.zeros(3, 3, 32, 48, dtype=torch.uint8)
    for step in range(3):
        video[step, step] = 255  # red, green, blue
    write_mp4(video, tmp_path / "film.mp4", 10)
    frames = decode(tmp_path / "film.mp4")
    assert [tuple(frame.shape) for frame in frames] == [(32, 48, 3)] * 3
    assert [int(frame.float().mean((0, 1)).argmax()) for frame in frames] == [0, 1, 2]
    write_gif(video, tmp_path / "film.gif", 10)
    with Image.open(tmp_path / "film.gif") as image:
        assert (image.n_frames, image.size) == (3, (24, 16))
        for step in range(3):
            image.seek(step)
            assert max(range(3), key=image.convert("RGB").getpixel((5, 5)).__getitem__) == step


# Episodes


def test_the_film_is_the_episode_that_the_policy_plays(make_run: MakeRun) -> None:
    run = make_run("algorithm=himppo", "task.max_steps=12")
    episode = film(run)
    group = episode.groups["agents"]
    assert len(episode.scenes) == 12
    with closing(load_trained(run, n_episodes=1)) as experiment:
        torch.testing.assert_close(group.external_reward.sum(0).mean(), play(experiment, seed=3).per_agent[0])
    left, right, bottom, top = episode.scenes[0].extent
    places = torch.stack([scene.positions["agents"] for scene in episode.scenes])
    assert ((places[..., 0] > left) & (places[..., 0] < right)).all()
    assert ((places[..., 1] > bottom) & (places[..., 1] < top)).all()
    assert [decides.nonzero().flatten().tolist() for decides in group.decides] == [list(range(12)), [0, 5, 10], [0, 10]]
    for goals, decides in zip(group.goals, group.decides[1:], strict=True):
        changes = (goals[1:] != goals[:-1]).flatten(1).any(1)
        assert torch.equal(changes, decides[1:])
    # The manager receives the mean external reward of its interval
    expected = group.external_reward[:10].mean(1).sum()
    torch.testing.assert_close(group.reward[2][0], expected.expand(2))


def test_nodes_stand_at_the_mean_of_their_workers(make_run: MakeRun) -> None:
    episode = film(make_run("algorithm=himppo", "task.n_agents=5"))
    figure = EpisodeFigure(episode)
    picture = figure.draw(6)
    assert (picture.dtype, tuple(picture.shape)) == (torch.uint8, (3, 720, 1280))
    (axes,) = figure.figure.subfigs[0].axes
    workers, sub_managers, manager = (
        torch.from_numpy(np.ma.filled(dots.get_offsets(), np.nan)) for dots in axes.collections
    )
    positions = episode.scenes[6].positions["agents"].double()
    torch.testing.assert_close(workers, positions)
    torch.testing.assert_close(manager[0], positions.mean(0))
    parent = episode.groups["agents"].graph.parent_index[0][6]
    for node in range(2):
        torch.testing.assert_close(sub_managers[node], positions[parent == node].mean(0), equal_nan=True)
    lines = [torch.tensor(line.get_data(), dtype=torch.float64).T for line in axes.lines]
    assert len(lines) == 5 + 2
    for worker in range(5):
        torch.testing.assert_close(lines[worker][0], positions[worker])
        torch.testing.assert_close(lines[worker][1], sub_managers[parent[worker]])
    assert not torch.equal(picture, figure.draw(9))
    assert torch.equal(picture, figure.draw(6))


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm=ippo"],
        pytest.param(["algorithm=himppo_flat"], marks=pytest.mark.slow),
        pytest.param(["algorithm=himppo_2l", "task.shared_rew=true"], marks=pytest.mark.slow),
        ["algorithm=himppo", "algorithm.clustering=static", "task=vmas/simple_tag"],  # two groups
        pytest.param(
            [
                *("algorithm=himppo", "algorithm.n_nodes=[4,2,1]", "algorithm.goal_interval=[2,2,2]"),
                *("algorithm.goal_dim=1", "algorithm.gamma=[null,0,0,0]", "algorithm.lmbda=[0.9,0,0,0]"),
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_algorithm_is_drawn(overrides: list[str], make_run: MakeRun) -> None:
    figure = EpisodeFigure(film(make_run(*overrides)))
    assert figure.draw(0).shape == (3, 720, 1280)


@pytest.mark.slow
def test_goals_from_a_few_are_shown_as_who_follows_which(make_run: MakeRun) -> None:
    """A picture of goals over steps, a row for each recipient, named after the goal in effect."""
    episode = film(make_run("algorithm=himppo", "algorithm.goal=categorical", "task.max_steps=12"))
    figure = EpisodeFigure(episode)
    figure.draw(7)
    for axes, goals in zip(figure.figure.subfigs[1].axes[:2], episode.groups["agents"].goals, strict=True):
        choices = goals.argmax(-1)
        (image,) = axes.images
        assert torch.equal(torch.from_numpy(np.asarray(image.get_array())), choices.T)
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert labels == [f"{i}: goal {goal}" for i, goal in enumerate(choices[7].tolist())]


@pytest.mark.slow
def test_foraging_agents_stand_on_their_cells(make_run: MakeRun) -> None:
    episode = film(make_run("algorithm=himppo", "task=lbfws/easy"))
    scene = episode.scenes[3]
    assert scene.extent == (0.0, 8.0, 8.0, 0.0)
    clusters = episode.groups["agents"].graph.parent_index[0][3].tolist()
    for (x, y), cluster in zip(scene.positions["agents"].tolist(), clusters, strict=True):
        left = scene.picture[int((y + 0.3) * 40), int((x - 0.55) * 40)]  # inside the disc, beside the level
        assert tuple(left) in {CLUSTERS[cluster], CLUSTERS[1 - cluster]}  # two agents may stand on one cell
    assert EpisodeFigure(episode).draw(3).shape == (3, 720, 1280)


# The command


def test_the_command_leaves_film_and_picture(make_run: MakeRun, capsys) -> None:
    run = make_run("algorithm=himppo", "task.max_steps=6")
    command.main([str(run), "moment=2"])
    (result,) = json.loads((run / "video.json").read_text())["results"]
    assert result["files"] == ["video.mp4", "video.gif", "video.png"]
    assert len(result["returns"]["agents"]) == 3
    assert str(run / "video.mp4") in capsys.readouterr().out
    assert len(decode(run / "video.mp4")) == 6
    with Image.open(run / "video.gif") as image:
        assert image.n_frames == 6
    with Image.open(run / "video.png") as image:
        assert image.size == (1280, 720)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["moment=0"], "moment=0 must be 1 or more"),
        (["moment=half"], "moment=half must be a whole number or null"),
        (["moment=11"], "moment=11 lies behind the end"),
        (["episodes=3"], "episodes is no option of this command: choose from seed, moment, output"),
    ],
)
def test_what_cannot_be_filmed_ends_with_a_sentence(arguments: list[str], message: str, make_run: MakeRun) -> None:
    run = make_run("algorithm=ippo")
    with pytest.raises(SystemExit, match=message):
        command.main([str(run), *arguments])
    assert not (run / "video.mp4").exists()

"""What is used of VMAS beyond its documentation."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest
import torch
import vmas
from vmas.simulator.environment import Environment

from benchmarl_himpo.environments import sampling_scenario
from benchmarl_himpo.host.vmas import SAMPLING_ATTRIBUTES, SIMULATION, picture_bounds, shared_generators


@pytest.fixture(scope="module")
def sampling() -> Environment:
    return vmas.make_env("sampling", num_envs=2, seed=0, grid_spacing=0.5)  # few points to evaluate


@pytest.mark.parametrize("name", SIMULATION)
def test_the_simulation_has_its_state_in(name: str, sampling: Environment) -> None:
    assert name in vars(sampling)


def test_a_simulation_draws_from_the_shared_generators_and_from_no_other(sampling: Environment) -> None:
    generators = shared_generators()
    assert generators is not None and len(generators) == 3
    kept, outside = list(generators), torch.get_rng_state()
    first = sampling.reset()[0]
    assert torch.equal(torch.get_rng_state(), outside) and not torch.equal(generators[0], kept[0])
    generators[:] = kept
    assert torch.equal(sampling.reset()[0], first)
    assert not torch.equal(sampling.reset()[0], first)


def test_shared_generators_does_not_import_vmas() -> None:
    program = (
        "import sys; from benchmarl_himpo.host.vmas import shared_generators as g; print(g(), 'vmas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["None", "False"]


@pytest.mark.parametrize("name", SAMPLING_ATTRIBUTES)
def test_sampling_of_vmas_has_the_attribute(name: str, sampling: Environment) -> None:
    assert hasattr(sampling.scenario, name)


def test_the_accelerated_sampling_uses_the_listed_attributes_and_no_others() -> None:
    tree = ast.parse(inspect.getsource(sampling_scenario))
    names = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    of_vmas = vars(vmas.make_env("sampling", num_envs=1, grid_spacing=0.5).scenario).keys() | {"nomrlize_pdf"}
    assert {name for name in names if name in of_vmas} | {"nomrlize_pdf"} == set(SAMPLING_ATTRIBUTES)


def test_picture_bounds_gives_left_right_bottom_top(sampling: Environment) -> None:
    try:
        sampling.render(mode="rgb_array")
    except Exception as error:  # whatever pyglet, EGL or matplotlib raise
        pytest.skip(f"cannot draw here: {error}")
    left, right, bottom, top = picture_bounds(sampling)
    assert left < -1 < 1 < right and bottom < -1 < 1 < top  # the arena is two units wide and high


def test_an_environment_has_a_viewer_before_it_is_drawn(sampling: Environment) -> None:
    assert "viewer" in vars(sampling)

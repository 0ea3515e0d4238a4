"""What is used of tensordict beyond its documentation."""

from __future__ import annotations

import torch
from tensordict import TensorDict

from benchmarl_himpo.host.tensordict import comes_from_interrupt


def test_comes_from_interrupt_sees_a_ctrl_c_behind_an_error_of_tensordict() -> None:
    linear = torch.nn.Linear(1, 1)
    try:
        with TensorDict.from_module(linear).to_module(linear):
            raise KeyboardInterrupt
    except BaseException as error:
        assert comes_from_interrupt(error)
    assert not comes_from_interrupt(RuntimeError())

"""What is used of torch beyond its documentation."""

from __future__ import annotations

import torch
from torch import nn

from benchmarl_himpo.host.torch import operators_of


def test_operators_of_lists_what_an_exported_program_calls() -> None:
    program = torch.export.export(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), (torch.zeros(1, 2),))
    assert operators_of(program) == {"aten.linear.default": "aten", "aten.relu.default": "aten"}

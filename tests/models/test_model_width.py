"""Narrower models: what is scaled, what is left alone, and that only the encoders of goal actors are."""

from __future__ import annotations

import pytest
from benchmarl.models import CnnConfig, DeepsetsConfig, GnnConfig, MlpConfig, SequenceModelConfig
from benchmarl.models.common import ModelConfig
from support.hierarchy_builders import MLP_CONFIG, TinyHierarchy
from torch import nn

from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.models.model_width import scale_width

MLP = MlpConfig(num_cells=[256, 128], layer_class=nn.Linear, activation_class=nn.Tanh)
CNN = CnnConfig(
    cnn_num_cells=[32, 3],
    cnn_kernel_sizes=3,
    cnn_strides=1,
    cnn_paddings=0,
    cnn_activation_class=nn.Tanh,
    mlp_num_cells=64,
    mlp_layer_class=nn.Linear,
    mlp_activation_class=nn.Tanh,
)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (MLP, {"num_cells": [64, 32]}),
        (CNN, {"cnn_num_cells": [8, 1], "mlp_num_cells": 16, "cnn_kernel_sizes": 3}),
        (
            DeepsetsConfig(
                local_nn_num_cells=[8],
                global_nn_num_cells=[40],
                out_features_local_nn=20,
                local_nn_activation_class=nn.Tanh,
                global_nn_activation_class=nn.Tanh,
                aggr="sum",
            ),
            {"local_nn_num_cells": [2], "global_nn_num_cells": [10], "out_features_local_nn": 20},
        ),
    ],
)
def test_every_width_is_scaled_and_nothing_else(config: ModelConfig, expected: dict[str, object]) -> None:
    before = dict(vars(config))
    narrow = scale_width(config, 0.25)
    assert type(narrow) is type(config)
    assert vars(narrow) == {**before, **expected}
    assert vars(config) == before


def test_a_sequence_is_scaled_throughout() -> None:
    sequence = SequenceModelConfig(model_configs=[CNN, MLP], intermediate_sizes=[40])
    narrow = scale_width(sequence, 0.5)
    assert narrow.intermediate_sizes == [20]
    assert [model.num_cells for model in narrow.model_configs[1:]] == [[128, 64]]
    assert narrow.model_configs[0].cnn_num_cells == [16, 2]


def test_a_model_without_widths_stays_as_it_is() -> None:
    gnn = GnnConfig(topology="full", self_loops=False, gnn_class=nn.Linear)
    assert scale_width(gnn, 0.5) == gnn


def test_only_encoders_of_goal_actors_are_narrower() -> None:
    layout = HierarchyLayout(4, (2, 1), (5, 2))
    full, narrow = TinyHierarchy(layout), TinyHierarchy(layout, goal_actor_width=0.5)
    widths = list(MLP_CONFIG.num_cells)
    halves = [round(width / 2) for width in widths]
    for networks in ("actors", "critics"):
        for level in range(layout.n_levels):
            assert _widths_of(getattr(full, networks)[level]) == widths
            expected = halves if networks == "actors" and level > 0 else widths
            assert _widths_of(getattr(narrow, networks)[level]) == expected


def _widths_of(network: nn.Module) -> list[int]:
    """Sizes of the hidden layers of a network's encoder, an MLP."""
    (encoder,) = (module.encoder for module in network.modules() if hasattr(module, "encoder"))
    return [layer.out_features for layer in encoder.modules() if isinstance(layer, nn.Linear)][:-1]

"""Message passing inside one level (paper: Eq. 1): a dense layer by default, or any PyG convolution by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarl_himpo.hierarchy.hierarchy_graph import mean_of_members


class DenseGraphConv(nn.Module):
    r"""Mean-aggregating graph convolution on dense adjacencies (MSG, AGGR and UPDATE: ours).

    .. math:: h_i' = W_1 h_i + W_2 \, \mathrm{mean}_{j \in N(i)} h_j + b

    Equal to ``torch_geometric.nn.GraphConv(aggr="mean")`` with the same weights; a node without neighbours gets a zero
    mean.

    Args:
        in_features: size of the node states.
        out_features: size of the new node states.

    Shapes:
        - x: ``[*B, n, in_features]``
        - adjacency: ``[*B, n, n]``, bool, row i (target) receives messages from column j (source)
        - output: ``[*B, n, out_features]``
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.root = nn.Linear(in_features, out_features, bias=False)
        self.neighbour = nn.Linear(in_features, out_features)

    def reset_parameters(self) -> None:
        """Re-initialise the weights."""
        self.root.reset_parameters()
        self.neighbour.reset_parameters()

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Exchange one round of messages."""
        return self.root(x) + self.neighbour(mean_of_members(adjacency, x))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root.in_features}, {self.root.out_features})"


class PygGraphConv(nn.Module):
    """A ``torch_geometric`` convolution with the interface of :class:`DenseGraphConv`.

    Args:
        gnn_class: name of a convolution that takes ``(in_channels, out_channels)`` and ``(x, edge_index)``: a class of
            ``torch_geometric.nn`` or a full path.
        in_features: size of the node states.
        out_features: size of the new node states.
        gnn_kwargs: further arguments of the convolution.

    Raises:
        ValueError: if torch_geometric is missing, the name is unknown, the convolution cannot be built or called in
            this way, or its output has another size than ``out_features``.

    Shapes:
        - x: ``[*B, n, in_features]``
        - adjacency: ``[*B, n, n]``, bool, row i (target) receives messages from column j (source)
        - output: ``[*B, n, out_features]``
    """

    def __init__(self, gnn_class: str, in_features: int, out_features: int, gnn_kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.out_features = out_features
        convolution = find_convolution(gnn_class)
        try:
            self.conv = convolution(in_features, out_features, **gnn_kwargs)
            probe = self.conv(torch.zeros(2, in_features), torch.tensor([[0], [1]]))
        except (AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"gnn_class={gnn_class} with gnn_kwargs={dict(gnn_kwargs)} cannot be built from "
                f"two sizes or called with states and edges alone ({error}): choose another convolution such as "
                "GATv2Conv, or other arguments"
            ) from error
        if probe.shape != (2, out_features):
            raise ValueError(
                f"gnn_class={gnn_class} gives {probe.shape[-1]} features instead of {out_features}: "
                f"check gnn_kwargs={dict(gnn_kwargs)} (heads must be averaged: concat: false)"
            )

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Exchange one round of messages, with the whole batch as one sparse graph."""
        n = x.shape[-2]
        graph, target, source = adjacency.reshape(-1, n, n).nonzero(as_tuple=True)
        edge_index = torch.stack([graph * n + source, graph * n + target])
        return self.conv(x.reshape(-1, x.shape[-1]), edge_index).reshape(*x.shape[:-1], self.out_features)


def find_convolution(name: str) -> type[nn.Module]:
    """Import the PyG convolution of a name such as ``GATv2Conv``; ValueError if PyG or the class is missing."""
    module_name, _, class_name = name.rpartition(".")
    try:
        module = importlib.import_module(module_name or "torch_geometric.nn")
        convolution: type[nn.Module] = getattr(module, class_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"gnn_class={name} needs the module {error.name}: pip install 'benchmarl_himpo[gnn]', or set "
            "gnn_class=null for the built-in layer"
        ) from error
    except AttributeError as error:
        raise ValueError(
            f"gnn_class={name} names no class of {module.__name__}: use the name of a torch_geometric "
            "convolution such as GATv2Conv, or null for the built-in layer"
        ) from error
    return convolution


class MessagePassing(nn.Module):
    """Rounds of residual message passing, h ← h + tanh(conv(h, N)) (UPDATE: ours).

    Args:
        features: size of the node states.
        n_rounds: number of rounds, each with weights of its own.
        gnn_class: None for :class:`DenseGraphConv`, otherwise see :class:`PygGraphConv`.
        gnn_kwargs: further arguments of the PyG convolution.

    Shapes:
        - x: ``[*B, n, features]``
        - adjacency: ``[*B, n, n]``, bool
        - output: ``[*B, n, features]``
    """

    def __init__(self, features: int, n_rounds: int, gnn_class: str | None, gnn_kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            DenseGraphConv(features, features)
            if gnn_class is None
            else PygGraphConv(gnn_class, features, features, gnn_kwargs)
            for _ in range(n_rounds)
        )

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Exchange messages."""
        for conv in self.convs:
            x = x + torch.tanh(conv(x, adjacency))
        return x

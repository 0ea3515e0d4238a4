"""Message passing: by hand, as PyG computes it, and blind to the order of neighbours."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarl_himpo.models import DenseGraphConv, MessagePassing, PygGraphConv


def _random_graph(seed: int, shape: tuple[int, ...], n: int, features: int = 4, density: float = 0.5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, n, features, dtype=torch.float64, generator=generator)
    adjacency = torch.rand(*shape, n, n, generator=generator) < density
    return x, adjacency & ~torch.eye(n, dtype=torch.bool)


def _copy_weights(dense: DenseGraphConv, pyg) -> None:
    pyg.lin_root.load_state_dict(dense.root.state_dict())
    pyg.lin_rel.load_state_dict(dense.neighbour.state_dict())


def test_dense_layer_worked_by_hand():
    """h' = 2 h + 10 mean + 0.5 on three nodes of 1, 3, 5: node 0 receives from both others, 1 from 2, 2 from nobody."""
    conv = DenseGraphConv(1, 1)
    with torch.no_grad():
        conv.root.weight.fill_(2)
        conv.neighbour.weight.fill_(10)
        conv.neighbour.bias.fill_(0.5)
    x = torch.tensor([[1.0], [3.0], [5.0]])
    adjacency = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    assert conv(x, adjacency).flatten().tolist() == [42.5, 56.5, 10.5]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 7), density=st.sampled_from([0.0, 0.3, 1.0]))
def test_dense_layer_is_pygs_graph_conv_with_mean(seed, n, density):
    """The same weights on random graphs, isolated nodes included."""
    GraphConv = pytest.importorskip("torch_geometric.nn").GraphConv  # noqa: N806
    dense, pyg = DenseGraphConv(4, 3).double(), GraphConv(4, 3, aggr="mean").double()
    _copy_weights(dense, pyg)
    x, adjacency = _random_graph(seed, (), n, density=density)
    target, source = adjacency.nonzero(as_tuple=True)
    expected = pyg(x, torch.stack([source, target]))
    torch.testing.assert_close(dense(x, adjacency), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_pyg_layer_on_a_batch_of_graphs_is_the_dense_layer(shape):
    """One sparse graph over the batch keeps environments and directions apart."""
    pytest.importorskip("torch_geometric")
    dense, pyg = DenseGraphConv(4, 4).double(), PygGraphConv("GraphConv", 4, 4, {"aggr": "mean"}).double()
    _copy_weights(dense, pyg.conv)
    x, adjacency = _random_graph(5, shape, 5)
    torch.testing.assert_close(pyg(x, adjacency), dense(x, adjacency), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gnn_class", [None, "GATv2Conv", "torch_geometric.nn.SAGEConv"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), data=st.data())
def test_the_order_of_neighbours_does_not_matter(gnn_class, seed, data):
    """Permuting the nodes permutes the states, so that no node's answer depends on how its neighbours are numbered."""
    if gnn_class is not None:
        pytest.importorskip("torch_geometric")
    torch.manual_seed(0)
    messages = MessagePassing(4, 2, gnn_class, {}).double()
    x, adjacency = _random_graph(seed, (2,), 5)
    order = torch.tensor([0, *data.draw(st.permutations(range(1, 5)))])
    plain, permuted = messages(x, adjacency), messages(x[:, order], adjacency[:, order][:, :, order])
    torch.testing.assert_close(permuted[:, 0], plain[:, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(permuted, plain[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("gnn_class", [None, "GraphConv"])
def test_messages_go_from_column_to_row_and_one_hop_a_round(gnn_class):
    """On the path 0 -> 1 -> 2, node 1 reaches node 2 after a round and node 0 after two; nothing goes back."""
    if gnn_class is not None:
        pytest.importorskip("torch_geometric")
    adjacency = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.bool)
    reach = {1: [[1, 0, 0], [1, 1, 0], [0, 1, 1]], 2: [[1, 0, 0], [1, 1, 0], [1, 1, 1]]}
    for n_rounds, expected in reach.items():
        torch.manual_seed(0)
        messages = MessagePassing(4, n_rounds, gnn_class, {})
        jacobian = torch.autograd.functional.jacobian(lambda x, m=messages: m(x, adjacency), torch.randn(3, 4))
        assert (jacobian != 0).any(3).any(1).int().tolist() == expected


def test_rounds_are_residual_and_have_weights_of_their_own():
    """h + tanh(conv(h)) twice, with two different layers."""
    torch.manual_seed(0)
    messages = MessagePassing(4, 2, None, {}).double()
    x, adjacency = _random_graph(1, (), 4)
    first, second = messages.convs
    assert not torch.equal(first.root.weight, second.root.weight)
    once = x + torch.tanh(first(x, adjacency))
    expected = once + torch.tanh(second(once, adjacency))
    torch.testing.assert_close(messages(x, adjacency), expected, rtol=0, atol=0)


def test_no_rounds_change_nothing():
    """Message passing of zero rounds is the identity."""
    x, adjacency = _random_graph(1, (), 4)
    assert MessagePassing(4, 0, None, {})(x, adjacency) is x


def test_reset_parameters_draws_new_weights():
    """Both linear maps change."""
    conv = DenseGraphConv(4, 4)
    before = [param.clone() for param in conv.parameters()]
    conv.reset_parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, conv.parameters(), strict=True))


def test_repr_says_the_sizes():
    """As PyG's layers do."""
    assert repr(DenseGraphConv(4, 8)) == "DenseGraphConv(4, 8)"


@pytest.mark.parametrize(
    ("gnn_class", "kwargs", "message"),
    [
        ("NoSuchConv", {}, "^gnn_class=NoSuchConv names no class of torch_geometric.nn"),
        ("torch_geometric.nn.NoSuchConv", {}, "names no class of torch_geometric.nn"),
        ("no_such_package.Conv", {}, r"needs the module no_such_package: pip install 'benchmarl_himpo\[gnn\]'"),
        ("EdgeConv", {}, "gnn_class=EdgeConv with gnn_kwargs={} cannot be built from two sizes"),
        ("RGCNConv", {"num_relations": 2}, "cannot be built from two sizes or called with states and edges alone"),
        ("GATv2Conv", {"heads": 2}, "gives 8 features instead of 4: check gnn_kwargs={'heads': 2}"),
    ],
)
def test_convolutions_that_cannot_work_are_refused(gnn_class, kwargs, message):
    """The message names the option and the way out."""
    pytest.importorskip("torch_geometric")
    with pytest.raises(ValueError, match=message):
        MessagePassing(4, 1, gnn_class, kwargs)


def test_a_missing_torch_geometric_is_named(monkeypatch):
    """The dense layer needs no extra package; any other says which one is missing."""
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    MessagePassing(4, 1, None, {})
    with pytest.raises(ValueError, match=r"needs the module torch_geometric.*gnn_class=null"):
        MessagePassing(4, 1, "GATv2Conv", {})

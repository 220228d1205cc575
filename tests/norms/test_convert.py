"""Swapping the batch normalization layers of a model, and the two ways of handing over ids."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from cbnorm.norms import (
    ConditionalBatchNorm,
    MixtureNorm,
    SCBNorm,
    UCBNorm,
    apply_norm,
    cluster_ids,
    convert_norm,
)


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8, eps=1e-3, momentum=0.2),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)),
        nn.Flatten(),
        nn.Linear(4 * 16, 5),
        nn.BatchNorm1d(5),
    )


X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([0, 1, 1, -1, 0, 1])


@pytest.mark.parametrize(
    ("where", "paths"),
    [
        ("first", ["1"]),
        ("all", ["1", "3.1", "6"]),
        (r"^3\.", ["3.1"]),
        (lambda path, layer: layer.num_features < 6, ["3.1", "6"]),
    ],
)
def test_replaces_what_was_asked_for_and_says_so(where, paths):
    model = make_model()
    changed = convert_norm(model, "ucb", where=where, num_components=2)
    assert list(changed) == paths
    for path, layer in changed.items():
        assert model.get_submodule(path) is layer
        assert isinstance(layer, UCBNorm)
    assert model(X).shape == (6, 5)


def test_keeps_options_mode_type_and_affine_weights():
    model = make_model().double().eval()
    with torch.no_grad():
        model[1].weight.fill_(2.0)
        model[1].bias.fill_(-1.0)
    old = copy.deepcopy(model[1])
    layer = convert_norm(model, "mn", num_components=2)["1"]
    assert isinstance(layer, MixtureNorm)
    assert (layer.eps, layer.momentum, layer.training) == (1e-3, 0.2, False)
    assert layer.running_mean.dtype == torch.float64
    assert torch.equal(layer.weight, old.weight)
    assert torch.equal(layer.bias, old.bias)


def test_gamma_and_beta_go_to_every_cluster():
    model = make_model()
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(8.0))
    layer = convert_norm(model, "conditional_bn", num_clusters=3)["1"]
    assert isinstance(layer, ConditionalBatchNorm)
    assert torch.equal(layer.weight, torch.arange(8.0).expand(3, 8))


def test_a_mean_layer_stays_on_its_device():
    model = make_model().to("meta")
    layer = convert_norm(model, "scb", num_clusters=3)["1"]
    assert layer.mean.device.type == "meta"


def test_the_context_and_the_argument_agree():
    class Explicit(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.layers = layers

        def forward(self, x, clusters):
            for layer in self.layers:
                x = apply_norm(layer, x, clusters)
            return x

    model = make_model()
    convert_norm(model, "scb", where="first", num_clusters=2)
    with torch.no_grad():
        model[1].mean.normal_(generator=torch.Generator().manual_seed(2))
    explicit = Explicit(copy.deepcopy(model))
    with cluster_ids(IDS):
        implicit = model(X)
    assert torch.equal(implicit, explicit(X, IDS))
    assert not torch.equal(implicit, copy.deepcopy(explicit)(X, IDS.clamp_min(0)))


def test_contexts_nest_and_end():
    layer, x = SCBNorm(3, 2), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.mean.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 3))
    zero, one = torch.tensor([0, 0]), torch.tensor([1, 1])
    unknown = layer(x)
    with cluster_ids(zero):
        with cluster_ids(one):
            assert torch.equal(layer(x), layer(x, one))
        with cluster_ids(None):
            assert torch.equal(layer(x), unknown)
        assert torch.equal(layer(x), layer(x, zero))
        assert torch.equal(layer(x, one), layer(x, one))
    with pytest.raises(RuntimeError, match="inside"), cluster_ids(zero):
        raise RuntimeError("inside")
    assert torch.equal(layer(x), unknown)


def test_the_context_reaches_compiled_models():
    torch.compiler.reset()
    layer = SCBNorm(3, 2)
    with torch.no_grad():
        layer.mean.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 3))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for ids in (torch.tensor([0, 1]), torch.tensor([1, 1])):
        with cluster_ids(ids):
            torch.testing.assert_close(compiled(x), layer(x, ids))


@pytest.mark.parametrize(
    ("model", "where", "message"),
    [
        (nn.Sequential(nn.ReLU()), "first", "no BatchNorm layer matches where='first'; the model has: none"),
        (make_model(), "conv", re.escape("where='conv'; the model has: 1, 3.1, 6")),
        (nn.BatchNorm2d(4), "all", "create_norm"),
    ],
)
def test_nothing_to_replace_is_refused(model, where, message):
    with pytest.raises(ValueError, match=message):
        convert_norm(model, "scb", where=where, num_clusters=2)


def test_a_refused_option_leaves_the_model_whole():
    model = make_model()
    with pytest.raises(TypeError, match="num_clusters"):
        convert_norm(model, "scb", where="all", num_components=2)
    assert isinstance(model[1], nn.BatchNorm2d)


class Loud(nn.BatchNorm1d):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return 5 * super().__call__(x)


def hooked() -> nn.Module:
    layer = nn.BatchNorm1d(4)
    layer.register_forward_hook(lambda *_: None)
    return layer


def patched() -> nn.Module:
    layer = nn.BatchNorm1d(4)
    layer.forward = lambda x: 3 * x
    return layer


def pruned() -> nn.Module:
    return prune.l1_unstructured(nn.BatchNorm1d(4), "weight", amount=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Loud(4), "may do more than batch normalization"),
        (patched, "may do more than batch normalization"),
        (hooked, "has hooks or parametrizations"),
        (pruned, "has hooks or parametrizations"),
        (lambda: parametrize.register_parametrization(nn.BatchNorm1d(4), "weight", nn.Tanh()), "1 is|hooks"),
    ],
)
def test_nothing_attached_to_a_layer_is_lost_silently(make, message):
    model = nn.Sequential(nn.Linear(4, 4), make())
    with pytest.raises(ValueError, match=message):
        convert_norm(model, "mode", num_components=2)
    assert isinstance(model[1], nn.BatchNorm1d)


@pytest.mark.parametrize(
    ("where", "kind", "message"),
    [
        ("*.bn", ValueError, "is no regular expression"),
        (["1"], TypeError, "where must be 'first', 'all', a regular expression or a callable"),
        (None, TypeError, "where must be"),
    ],
)
def test_a_where_that_says_nothing_is_refused(where, kind, message):
    with pytest.raises(kind, match=message):
        convert_norm(make_model(), "ucb", where=where, num_components=2)


def test_the_number_of_channels_is_not_for_the_caller():
    with pytest.raises(TypeError, match="leave num_features out"):
        convert_norm(make_model(), "scb", num_features=9, num_clusters=2)


@pytest.mark.parametrize("name", ["bn", "mn", "ucb", "gn"])
def test_a_layer_without_beta_gets_none_that_learns(name):
    layer = nn.BatchNorm2d(4)
    layer.bias = None  # as bias=False makes it, where torch has that
    options = {"mn": {"num_components": 2}, "ucb": {"num_components": 2, "affine": True}}.get(name, {})
    model = nn.Sequential(layer)
    convert_norm(model, name, **options)
    assert model[0].weight.requires_grad
    assert not model[0].bias.requires_grad
    assert not model[0].bias.any()

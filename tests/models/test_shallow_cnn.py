"""The network of Table IV, as printed."""

import pytest
import torch
from torch import nn

from cbnorm.models import ShallowCNN
from cbnorm.norms import create_norm


@pytest.mark.parametrize(("classes", "parameters"), {10: 918_410, 100: 941_540, 200: 967_240}.items())
def test_parameter_counts(classes: int, parameters: int) -> None:
    assert sum(p.numel() for p in ShallowCNN(classes, nn.BatchNorm2d).parameters()) == parameters


def test_sizes_of_table_iv() -> None:
    model, sizes = ShallowCNN(10, nn.BatchNorm2d), []
    for norm in model.norms:
        norm.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[1:])))
    model.linear.register_forward_hook(lambda _m, inputs, _o: sizes.append(tuple(inputs[0].shape[1:])))
    model(torch.zeros(2, 3, 32, 32))
    assert sizes == [(64, 32, 32), (128, 16, 16), (128, 8, 8), (256, 4, 4), (256,)]


def test_only_the_third_norm_is_replaced_unless_asked() -> None:
    model = ShallowCNN(10, lambda features: create_norm("ucb", features, num_components=3))
    assert [type(norm).__name__ for norm in model.norms] == [
        "BatchNorm2d",
        "BatchNorm2d",
        "UCBNorm",
        "BatchNorm2d",
    ]
    model = ShallowCNN(10, lambda _: nn.Identity(), placement=[1, 4])
    assert [type(norm).__name__ for norm in model.norms] == [
        "Identity",
        "BatchNorm2d",
        "BatchNorm2d",
        "Identity",
    ]


def test_clusters_reach_the_layer_that_takes_them() -> None:
    torch.manual_seed(0)
    model = ShallowCNN(10, lambda features: create_norm("scb", features, num_clusters=3)).eval()
    with torch.no_grad():  # negative means, so that ReLU lets the clusters' differences through
        model.norms[2].mean.copy_(-torch.arange(3.0)[:, None].expand(3, 128))
    images = torch.randn(1, 3, 32, 32).expand(3, -1, -1, -1)
    logits = model(images, torch.tensor([0, 1, 2]))
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])
    # Not bit by bit: on some processors a convolution sums the images of a batch in different orders.
    same = model(images, torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(same[0], same[2])


def test_convolutions_start_glorot_uniform_with_zero_bias() -> None:
    torch.manual_seed(0)
    conv = ShallowCNN(10, nn.BatchNorm2d).convs[1]
    bound = (6 / (25 * 64 + 25 * 128)) ** 0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.abs().max() > 0.99 * bound
    assert conv.weight.detach().std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert conv.bias.abs().max() == 0


@pytest.mark.parametrize(("classes", "millions"), {10: 1.53, 100: 2.36, 200: 3.28}.items())
def test_the_authors_version_has_their_parameters_and_their_9216_wide_head(
    classes: int, millions: float
) -> None:
    model = ShallowCNN(classes, nn.BatchNorm2d, last_kernel=5, head="flatten", image_size=72)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert model.linear.in_features == 9216
    assert model(torch.zeros(2, 3, 72, 72)).shape == (2, classes)


def test_the_layers_that_stay_batch_normalization_take_the_options_given() -> None:
    model = ShallowCNN(10, lambda _: nn.Identity(), bn_eps=1e-3, bn_momentum=0.01)
    assert [(n.eps, n.momentum) for n in model.norms if isinstance(n, nn.BatchNorm2d)] == [(1e-3, 0.01)] * 3

"""DenseNet: counts, widths, agreement with torchvision's blocks, starts."""

import cbnorm._torchvision  # noqa: F401, I001  (before torchvision)
import pytest
import torch
from torch import nn
from torchvision.models.densenet import _DenseBlock, _Transition

from cbnorm.models import DenseNet
from cbnorm.models.densenet import DenseUnit, Transition, transition_widths


def densenet(placement=(), **options) -> DenseNet:
    return DenseNet(100, nn.BatchNorm2d, placement, **options)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 188_092),
        ({"depth": 100}, 800_032),
        ({"bookkeeping": "released"}, 181_828),
        ({"depth": 100, "bookkeeping": "released"}, 767_578),
        ({"variant": "plain"}, 1_100_428),
        ({"variant": "plain", "stem_width": 16}, 1_060_132),
    ],
)
def test_parameter_counts(options: dict, parameters: int) -> None:
    assert count(densenet(**options)) == parameters


def test_the_layer_on_the_image_adds_its_own_parameters_only() -> None:
    assert count(densenet([0])) == 188_092 + 2 * 3


def test_depth_counts_convolutions_and_the_linear_layer() -> None:
    for options, depth in (({}, 40), ({"depth": 100}, 100), ({"variant": "plain"}, 40)):
        weighted = [m for m in densenet(**options).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(weighted) == depth


@pytest.mark.parametrize(
    ("units", "bookkeeping", "widths"),
    [
        (6, "paper", (48, 60)),
        (6, "released", (48, 48)),
        (16, "paper", (108, 150)),
        (16, "released", (108, 123)),
    ],
)
def test_widths_after_transitions(units: int, bookkeeping: str, widths: tuple[int, int]) -> None:
    assert transition_widths(units, 24, "bc", bookkeeping) == widths


def test_the_plain_network_has_nothing_to_halve() -> None:
    assert transition_widths(12, 24, "plain", "released") == (168, 312)


def test_a_dense_block_and_its_transition_agree_with_torchvisions() -> None:
    torch.manual_seed(0)
    model = densenet()
    mine = nn.Sequential(*model.layers[:7])
    theirs = nn.Sequential(_DenseBlock(6, 24, 4, 12, drop_rate=0), _Transition(96, 48))
    with torch.no_grad():
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            b.copy_(a.normal_(std=0.2) if a.ndim == 1 else a)
    x = torch.randn(3, 24, 8, 8)
    torch.testing.assert_close(mine(x), theirs(x))
    assert isinstance(model.layers[6], Transition)


def test_sizes_of_the_blocks() -> None:
    model, sizes = densenet(depth=10), []
    for layer in model.layers:
        layer.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[1:])))
    model(torch.zeros(2, 3, 32, 32))
    assert sizes == [(36, 32, 32), (18, 16, 16), (30, 16, 16), (15, 8, 8), (27, 8, 8)]


def test_dropout_acts_on_the_new_channels_in_training_only() -> None:
    model = densenet(depth=10, dropout=0.5)
    unit = next(layer for layer in model.layers if isinstance(layer, DenseUnit))
    x = torch.randn(4, 24, 8, 8)
    new = unit(x)[:, 24:]
    assert torch.equal(unit(x)[:, :24], x)
    assert 0.4 < (new == 0).float().mean() < 0.6
    assert torch.equal(unit.eval()(x), unit(x))
    assert (unit(x)[:, 24:] != 0).all()


def test_starts() -> None:
    torch.manual_seed(0)
    he, glorot = densenet(), densenet(init="glorot")
    conv, bound = he.layers[1].steps[1].conv, (6 / (9 * 48 + 9 * 12)) ** 0.5
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 12)) ** 0.5, rel=0.03)
    assert he.stem.weight.std().item() == pytest.approx((2 / (9 * 24)) ** 0.5, rel=0.1)
    conv = glorot.layers[1].steps[1].conv
    assert 0.99 * bound < conv.weight.abs().max() <= bound
    assert glorot.linear.weight.abs().max() > 132**-0.5 > he.linear.weight.abs().max()
    assert not he.linear.bias.any()
    assert not glorot.linear.bias.any()


@pytest.mark.parametrize(("depth", "variant"), [(41, "bc"), (4, "bc"), (12, "plain")])
def test_depths_that_do_not_exist_are_refused(depth: int, variant: str) -> None:
    with pytest.raises(ValueError, match=rf"a {variant} DenseNet has a depth of \dn \+ 4, .* not {depth}"):
        densenet(depth=depth, variant=variant)

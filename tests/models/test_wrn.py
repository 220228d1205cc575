"""WRN-28-2: counts, sizes, shared activation, rescaling, starts."""

import pytest
import torch
from torch import nn

from cbnorm.models import WideResNet


def wrn(placement=(), **options) -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, nn.BatchNorm2d, placement, **options)


def test_counts_as_keras_counts() -> None:
    model = wrn()
    learned = sum(p.numel() for p in model.parameters())
    moving = sum(b.numel() for name, b in model.named_buffers() if "running" in name)
    assert (learned, moving) == (1_467_610, 3_616)
    assert learned + moving == 1_471_226


def test_28_weighted_layers_on_the_main_path() -> None:
    convs = [m for m in wrn().modules() if isinstance(m, nn.Conv2d)]
    assert sum(conv.kernel_size == (3, 3) for conv in convs) + 1 + 2 == 28  # two of 28 are shortcuts
    assert sum(conv.kernel_size == (1, 1) for conv in convs) == 3
    assert all(conv.bias is None for conv in convs)


def test_sizes_of_the_units() -> None:
    model, sizes = wrn().eval(), []
    for unit in model.units:
        unit.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[1:])))
    model(torch.zeros(1, 3, 32, 32))
    assert sizes == [(32, 32, 32)] * 4 + [(64, 16, 16)] * 4 + [(128, 8, 8)] * 4


def test_where_the_width_changes_both_branches_share_norm_and_relu() -> None:
    unit, x = wrn().units[4].eval(), torch.randn(2, 32, 8, 8)
    active = unit.first.norm(x).relu()
    main = unit.second.conv(unit.second.norm(unit.first.conv(active)).relu())
    torch.testing.assert_close(unit(x), main + unit.shortcut(active))


def test_where_it_does_not_the_shortcut_is_the_input() -> None:
    unit, x = wrn().units[1].eval(), torch.randn(2, 32, 8, 8)
    main = unit.second.conv(unit.second.norm(unit.first.conv(unit.first.norm(x).relu())).relu())
    torch.testing.assert_close(unit(x), main + x)


def test_rescaling_comes_before_the_layer_on_the_image() -> None:
    x, seen = 255 * torch.rand(2, 3, 16, 16), []
    inside, outside = wrn([0], rescale=True).eval(), wrn([0]).eval()
    inside.image_norm.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    torch.testing.assert_close(inside(x), outside(x / 255))
    torch.testing.assert_close(seen[0], x / 255)


def test_starts() -> None:
    model = wrn()
    weight, deviation = model.units[10].second.conv.weight, (2 / (9 * 128)) ** 0.5
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)
    assert weight.abs().max().item() == pytest.approx(2 * deviation / 0.8796, rel=0.01)
    bound = (6 / 138) ** 0.5
    assert 0.98 * bound < model.linear.weight.abs().max() <= bound
    assert not model.linear.bias.any()

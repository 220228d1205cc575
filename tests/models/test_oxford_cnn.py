"""OxfordCNN: count, sizes, where the authors' layer stands, dropout."""

import pytest
import torch
from torch import nn

from cbnorm.models import OxfordCNN
from cbnorm.norms import SCBNorm, create_norm


def test_parameter_count_with_37_classes_and_without_the_extra_layer() -> None:
    assert sum(p.numel() for p in OxfordCNN(37, nn.BatchNorm1d, []).parameters()) == 1_647_493
    with_layer = OxfordCNN(37, lambda features: create_norm("scb", features, num_clusters=2))
    assert sum(p.numel() for p in with_layer.parameters()) == 1_647_493 + 2 * 2 * 256


def test_sizes_of_the_blocks() -> None:
    model, sizes = OxfordCNN(37, nn.BatchNorm1d, [], image_size=128).eval(), []
    for conv in model.convs:
        conv.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[1:])))
    model.flat_norm.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[1:])))
    model(torch.zeros(1, 3, 128, 128))
    widths = (32, 32, 64, 64, 128, 128, 256)
    blocks = [(width, 128 >> block, 128 >> block) for block, width in enumerate(widths) for _ in range(2)]
    assert sizes == [*blocks, (256,)]
    assert OxfordCNN(37, nn.BatchNorm1d, []).flat_norm.num_features == 1024


def test_the_authors_layer_sees_sigmoids_and_feeds_the_last_dropout() -> None:
    torch.manual_seed(0)
    seen = []
    model = OxfordCNN(37, lambda features: create_norm("scb", features, num_clusters=2), image_size=128)
    assert isinstance(model.hidden_norm, SCBNorm)
    model.hidden_norm.register_forward_hook(lambda _m, inputs, output: seen.append((inputs[0], output)))
    features = model.features(torch.randn(8, 3, 128, 128), torch.zeros(8, dtype=torch.long))
    (before, after), kept = seen[0], features != 0
    assert before.shape == (8, 256)
    assert 0 < before.min() < before.max() < 1
    assert 0.87 < kept.float().mean() < 0.93
    torch.testing.assert_close(features[kept], after[kept] / 0.9)


def test_activation_follows_the_second_convolution_of_a_block_only() -> None:
    torch.manual_seed(0)
    model = OxfordCNN(37, nn.BatchNorm1d, [], image_size=128).eval()
    x, inputs = torch.randn(1, 3, 128, 128), []
    for conv in model.convs[1:3]:
        conv.register_forward_hook(lambda _m, given, _o: inputs.append(given[0]))
    model(x)
    torch.testing.assert_close(inputs[0], model.convs[0](x))
    y = model.convs[1](inputs[0])
    torch.testing.assert_close(inputs[1], nn.functional.max_pool2d(torch.where(y > 0, y, y / 2), 2))


@pytest.mark.parametrize("size", [64, 224])
def test_sizes_that_seven_poolings_do_not_halve_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 128, not {size}"):
        OxfordCNN(37, nn.BatchNorm1d, [], image_size=size)


def test_batch_normalization_follows_the_third_pooling_and_the_flattened_maps() -> None:
    model, shapes = OxfordCNN(37, nn.BatchNorm1d, [], image_size=128).eval(), []
    for layer in (model.map_norm, model.flat_norm):
        layer.register_forward_hook(lambda _m, inputs, _o: shapes.append(tuple(inputs[0].shape[1:])))
    model(torch.zeros(1, 3, 128, 128))
    assert shapes == [(64, 16, 16), (256,)]


def test_weights_start_glorot_uniform_with_zero_bias() -> None:
    torch.manual_seed(0)
    model = OxfordCNN(37, nn.BatchNorm1d, [])
    for layer in (*model.convs, *model.hidden, model.linear):
        area = layer.weight[0, 0].numel()
        bound = (6 / (area * (layer.weight.shape[0] + layer.weight.shape[1]))) ** 0.5
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()

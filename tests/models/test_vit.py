"""The vision transformer: count, attention, patches, resizing, dropout, starts."""

import math

import pytest
import torch
from torch import nn

from cbnorm.models import ViT
from cbnorm.models.vit import Attention, OverTokens
from cbnorm.norms import create_norm


@pytest.fixture(scope="module")
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(100, nn.BatchNorm2d, []).eval()


def test_parameter_count(vit: ViT) -> None:
    parameters = sum(p.numel() for p in vit.parameters())
    assert parameters == 21_759_012
    assert parameters / 1e6 == pytest.approx(21.76, abs=0.005)


def test_attention_is_softmax_of_scaled_products_with_four_heads_of_64() -> None:
    torch.manual_seed(0)
    layer, x = Attention().double().eval(), torch.randn(2, 5, 64, dtype=torch.double)
    nn.init.normal_(layer.project.bias)
    expected = torch.zeros(2, 5, 64, dtype=torch.double) + layer.out.bias
    for head in range(4):
        rows = [slice(part * 256 + head * 64, part * 256 + head * 64 + 64) for part in range(3)]
        q, k, v = (x @ layer.project.weight[r].T + layer.project.bias[r] for r in rows)
        weights = (q @ k.transpose(1, 2) / 8).exp()
        mixed = weights / weights.sum(-1, keepdim=True) @ v
        expected = expected + mixed @ layer.out.weight[:, head * 64 : head * 64 + 64].T
    torch.testing.assert_close(layer(x), expected)


def test_dropout_of_attention_acts_on_its_weights() -> None:
    torch.manual_seed(0)
    layer, x = Attention().double(), torch.randn(1, 1, 64, dtype=torch.double)
    # A single token's weight is 1 in each head, which dropout turns into 0 or 1 / 0.9.
    heads = (x[0, 0] @ layer.project.weight[512:].T).view(4, 64)
    parts = torch.einsum("hd,ohd->oh", heads, layer.out.weight.view(64, 4, 64))
    outputs = torch.stack([layer(x)[0, 0] for _ in range(200)], 1)
    weights = torch.linalg.lstsq(parts, outputs).solution
    torch.testing.assert_close(parts @ weights, outputs)
    kept = (weights > 0.5).double()
    # Probabilities are multiples of 2⁻¹⁶.
    torch.testing.assert_close(weights, kept / 0.9, rtol=1e-5, atol=1e-9)
    assert 0.86 < kept.mean() < 0.94
    torch.testing.assert_close(layer.eval()(x)[0, 0], parts.sum(1))


def test_tokens_are_patches_of_the_resized_image_row_by_row(vit: ViT) -> None:
    image, seen = torch.randn(1, 3, 72, 72), []
    handle = vit.blocks[0].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    vit(image)
    handle.remove()
    patch = image[0, :, 6:12, 66:72].flatten()  # second row, last column
    expected = vit.patches.weight.flatten(1) @ patch + vit.patches.bias + vit.positions[12 + 11]
    torch.testing.assert_close(seen[0][0, 12 + 11], expected)
    assert seen[0].shape == (1, 144, 64)


def test_images_are_resized_with_half_pixel_centres(vit: ViT) -> None:
    seen: list[torch.Tensor] = []
    handle = vit.patches.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    vit(torch.arange(32.0).expand(1, 3, 32, 32))
    handle.remove()
    centres = ((torch.arange(72) + 0.5) * 32 / 72 - 0.5).clamp(0, 31)  # a ramp's value is its place
    torch.testing.assert_close(seen[0][0, 0, 5], centres)


def test_a_known_clusters_map_of_channels_commutes_with_resizing_and_flipping() -> None:
    torch.manual_seed(0)
    layer = create_norm("scb", 3, num_clusters=2, convention="released").double()
    images, ids = torch.randn(2, 3, 8, 8, dtype=torch.double), torch.tensor([1, 0])

    def change(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, (18, 18), mode="bilinear").flip(3)

    torch.testing.assert_close(change(layer(images, ids)), layer(change(images), ids))


def test_dropouts(vit: ViT) -> None:
    rates = [m.p for block in vit.blocks for m in block.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.1] * 16
    assert [m.p for m in vit.head if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    seen: list[torch.Tensor] = []
    handle = vit.head.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    vit.train()(torch.randn(2, 3, 32, 32))
    vit.eval()
    handle.remove()
    assert 0.48 < (seen[0] == 0).float().mean() < 0.52


def test_the_norm_on_the_image_comes_before_resizing_and_others_see_channels_second() -> None:
    model, sizes = ViT(2, lambda features: create_norm("ln", features), [0, 1]).eval(), []
    model.image_norm.register_forward_hook(lambda _m, inputs, _o: sizes.append(inputs[0].shape[-1]))
    model(torch.zeros(1, 3, 32, 32))
    assert sizes == [32]
    replaced = model.blocks[0].attention_norm
    assert isinstance(replaced, OverTokens)
    tokens = torch.randn(2, 144, 64)
    # Layer normalization of "ln" is over channels and positions of a sample.
    expected = (tokens - tokens.mean((1, 2), keepdim=True)) / tokens.std((1, 2), correction=0, keepdim=True)
    torch.testing.assert_close(replaced(tokens), expected, rtol=1e-4, atol=1e-5)


def test_starts_as_in_keras(vit: ViT) -> None:
    bounds = {
        vit.patches.weight: 6 / (108 + 64),
        vit.blocks[0].attention.project.weight: 6 / (256 + 4096),
        vit.blocks[0].attention.out.weight: 6 / (256 + 256),
        vit.blocks[0].mlp[0].weight: 6 / (64 + 128),
        vit.linear.weight: 6 / (1024 + 100),
        vit.positions: 0.05**2,
    }
    for weight, square in bounds.items():
        assert 0.99 * math.sqrt(square) < weight.abs().max() <= math.sqrt(square)
    biases = [p for name, p in vit.named_parameters() if name.endswith("bias")]
    assert not any(bias.any() for bias in biases)


def test_layer_normalization_has_eps_1e_6(vit: ViT) -> None:
    layers = [m for m in vit.modules() if isinstance(m, nn.LayerNorm)]
    assert [layer.eps for layer in layers] == [1e-6] * 17


def test_a_block_normalizes_before_attention_and_mlp_and_adds_both(vit: ViT) -> None:
    block, x = vit.blocks[3], torch.randn(2, 144, 64)
    y = x + block.attention(block.attention_norm(x))
    z = block.mlp_norm(y)
    for layer in (block.mlp[0], block.mlp[3]):
        z = nn.functional.gelu(layer(z))  # after the second layer too
    torch.testing.assert_close(block(x), y + z)


def test_the_head_sees_all_tokens_normalized_and_flattened(vit: ViT) -> None:
    x, seen = torch.randn(1, 3, 32, 32), []
    handle = vit.blocks[-1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    features = vit.features(x)
    handle.remove()
    z = vit.norm(seen[0]).reshape(1, 9216)
    for layer in (vit.head[0], vit.head[3]):
        z = nn.functional.gelu(layer(z))
    torch.testing.assert_close(features, z)

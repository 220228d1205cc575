"""DCGAN: counts, sizes, placement, batch normalization without gamma."""

import pytest
import torch
from torch import nn

from cbnorm.models import Discriminator, Generator
from cbnorm.models.dcgan import ShiftedBatchNorm2d
from cbnorm.norms import UCBNorm, create_norm


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_the_generator() -> None:
    assert count(Generator(nn.BatchNorm2d)) == 3_828_739


def test_parameters_of_the_discriminator_by_hand() -> None:
    # (kernel area · channels in + 1 bias) · channels out, and a beta a channel after all but the first.
    layers = [
        (9, 3, 64),
        (16, 64, 128),
        (9, 128, 128),
        (16, 128, 256),
        (9, 256, 256),
        (16, 256, 512),
        (9, 512, 512),
    ]
    convolutions = sum((area * before + 1) * after for area, before, after in layers)
    betas = 128 + 128 + 256 + 256 + 512 + 512
    assert count(Discriminator()) == convolutions + betas + (4 * 4 * 512 + 1)


def test_sizes_of_both() -> None:
    generator, discriminator, sizes = Generator(nn.BatchNorm2d), Discriminator(), []
    for layer in (*generator.deconvs, generator.last, discriminator.first, *discriminator.convs):
        layer.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[1:])))
    logits = discriminator(generator(torch.randn(2, 128)))
    up = [(256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 32, 32)]
    down = [(64, 32, 32), (128, 16, 16), (128, 16, 16), (256, 8, 8), (256, 8, 8), (512, 4, 4), (512, 4, 4)]
    assert sizes == up + down
    assert logits.shape == (2,)


def test_the_first_two_deconvolutions_norms_are_replaced() -> None:
    model = Generator(lambda features: create_norm("ucb", features, num_components=3))
    assert [type(norm).__name__ for norm in model.norms] == ["UCBNorm", "UCBNorm", "BatchNorm2d"]
    assert [norm.num_features for norm in model.norms if isinstance(norm, UCBNorm)] == [256, 128]
    assert isinstance(model.linear_norm, nn.BatchNorm1d)
    everywhere = Generator(lambda features: create_norm("ucb", features, num_components=3), [1, 2, 3, 4])
    assert sum(isinstance(module, UCBNorm) for module in everywhere.modules()) == 4


@pytest.mark.parametrize("place", [0, 5])
def test_places_are_1_to_4(place: int) -> None:
    with pytest.raises(ValueError, match=rf"\[{place}\] names no norm layer .* they are 1 to 4"):
        Generator(nn.BatchNorm2d, [place])


@pytest.mark.parametrize("norm", ["bn", "mn", "ucb"])
def test_gradients_reach_every_parameter_of_both(norm: str) -> None:
    torch.manual_seed(0)
    options = {} if norm == "bn" else {"num_components": 3}
    generator, discriminator = Generator(lambda n: create_norm(norm, n, **options)), Discriminator()
    images = generator(torch.rand(4, 128) * 2 - 1)
    assert -1 < images.min() < 0 < images.max() < 1
    nn.functional.softplus(-discriminator(images)).mean().backward()
    for model in (generator, discriminator):
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_images_are_the_hyperbolic_tangent_of_the_last_layer() -> None:
    model, seen = Generator(nn.BatchNorm2d), []
    model.last.register_forward_hook(lambda _m, _i, output: seen.append(output))
    images = model(torch.randn(2, 128))
    torch.testing.assert_close(images, seen[0].tanh())


def test_ids_reach_the_layers_that_take_them() -> None:
    torch.manual_seed(0)
    options = {"num_clusters": 2, "convention": "released"}
    for place in (1, 2, 3, 4):
        model = Generator(lambda features: create_norm("scb", features, **options), [place]).eval()
        latent = torch.randn(1, 128).expand(3, -1)
        images = model(latent, torch.tensor([0, 1, 1]))
        assert not torch.allclose(images[0], images[1], atol=1e-6)
        torch.testing.assert_close(images[1], images[2])


def test_latent_vectors_may_have_two_axes_more() -> None:
    model, latent = Generator(nn.BatchNorm2d).eval(), torch.randn(2, 128)
    assert torch.equal(model(latent), model(latent[:, :, None, None]))


def test_relu_in_place_of_leaky_relu() -> None:
    torch.manual_seed(0)
    for activation, slope in (("leaky_relu", 0.2), ("relu", 0.0)):
        model, seen = Generator(nn.BatchNorm2d, activation=activation), []
        model.norms[0].register_forward_hook(lambda _m, _i, output, seen=seen: seen.append(output))
        model.deconvs[1].register_forward_hook(lambda _m, inputs, _o, seen=seen: seen.append(inputs[0]))
        model(torch.randn(2, 128))
        torch.testing.assert_close(seen[1], torch.where(seen[0] > 0, seen[0], slope * seen[0]))


def test_weights_start_normal_with_deviation_002() -> None:
    torch.manual_seed(0)
    for model in (Generator(nn.BatchNorm2d), Discriminator()):
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1), name
                assert not layer.bias.any(), name


def test_batch_normalization_without_gamma_is_that_with_gamma_one() -> None:
    torch.manual_seed(0)
    mine, torchs = ShiftedBatchNorm2d(4), nn.BatchNorm2d(4)
    with torch.no_grad():
        torchs.bias.copy_(mine.bias.normal_())
    x = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(mine(x), torchs(x))
    torch.testing.assert_close(mine.eval()(x), torchs.eval()(x))
    assert [name for name, _ in mine.named_parameters()] == ["bias"]
    mine.reset_parameters()
    assert not mine.bias.any()

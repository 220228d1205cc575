"""One step of generator and discriminator, against gradients by autograd and Adam by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from cbnorm.config.compose import compose_run
from cbnorm.models import dcgan
from cbnorm.tasks.adversarial import discriminator_loss, generator_loss, latent
from cbnorm.tasks.gan import Adversaries, Gan


class Line(nn.Module):
    """Images of two numbers from latent vectors, linearly."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(dcgan.LATENT, 2)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.layer(vectors)


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.tanh()).squeeze(1)


def made(law: str = "normal") -> Gan:
    torch.manual_seed(0)
    words = ["task=gan", "optimizer=adam", "optimizer.lr=0.01", "optimizer.betas=[0.0,0.9]"]
    task = Gan(Adversaries(Line(), Judge()), compose_run(words).optimizer, law=law)
    optimizers = task.configure_optimizers()
    task.all_optimizers = lambda: optimizers
    task.manual_backward = lambda loss, **options: loss.backward(**options)
    return task


def test_losses_are_cross_entropies_of_telling_real_from_made() -> None:
    real, fake = torch.randn(5, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    of_real, of_fake = real.sigmoid(), fake.sigmoid()
    assert discriminator_loss(real, fake).item() == pytest.approx(
        -(of_real.log().mean() + (1 - of_fake).log().mean()).item()
    )
    assert generator_loss(fake).item() == pytest.approx(-of_fake.log().mean().item())


def test_losses_stay_finite_and_keep_a_gradient_where_a_sigmoid_would_be_0() -> None:
    sure = torch.tensor([-500.0], requires_grad=True)
    loss = generator_loss(sure)
    loss.backward()
    assert loss.item() == 500
    assert sure.grad is not None
    assert sure.grad.item() == -1
    assert discriminator_loss(-sure, sure).item() == 0


def test_one_step_is_that_of_adam_on_both_gradients_of_one_forward_pass() -> None:
    task, images = made(), torch.randn(6, 2)
    torch.manual_seed(7)
    vectors = latent(6, dcgan.LATENT, "normal")
    generator, discriminator = task.model.generator, task.model.discriminator
    fake = discriminator(generator(vectors))
    of_generator = torch.autograd.grad(generator_loss(fake), generator.layer.weight, retain_graph=True)[0]
    loss = discriminator_loss(discriminator(images), fake)
    of_discriminator = torch.autograd.grad(loss, discriminator.layer.weight)[0]
    before = [net.layer.weight.detach().clone() for net in (generator, discriminator)]
    torch.manual_seed(7)
    task.training_step((images, torch.zeros(6), torch.zeros(6)), 0)
    for net, gradient, old in zip(
        (generator, discriminator), (of_generator, of_discriminator), before, strict=True
    ):
        # With betas (0, 0.9) the first step is the rate times the gradient over its own size.
        wanted = old - 0.01 * gradient / (gradient.abs() + 1e-8)
        assert torch.allclose(net.layer.weight, wanted, atol=1e-5)
        assert net.layer.weight.grad is None


def test_the_discriminator_sees_real_images_and_samples_apart() -> None:
    task, seen = made(), []
    task.model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.full((6, 2), 9.0)
    task.training_step((images, torch.zeros(6), torch.zeros(6)), 0)
    assert torch.equal(seen[0], images)
    assert seen[1].shape == (6, 2)
    assert len(seen) == 2


def test_an_epoch_is_told_by_both_losses_and_what_the_discriminator_gets_right() -> None:
    task = made()
    logits = torch.tensor([2.0, -1.0, 3.0]), torch.tensor([-2.0, -1.0, 4.0])
    task._count(torch.tensor(1.5), torch.tensor(0.5), *logits)
    told = task.finish_epoch()
    assert told == pytest.approx(
        {
            "train_loss": 2.0,
            "generator_loss": 1.5,
            "discriminator_loss": 0.5,
            "real_accuracy": 100 * 2 / 3,
            "fake_accuracy": 100 * 2 / 3,
        }
    )
    assert task.finish_epoch()["train_loss"] == 0


@pytest.mark.parametrize("which", [0, 1])
def test_either_loss_that_is_not_finite_shows(which: int) -> None:
    task = made()
    losses = [torch.tensor(1.0), torch.tensor(1.0)]
    losses[which] = torch.tensor(math.inf)
    task._count(*losses, torch.ones(2), torch.ones(2))
    assert not math.isfinite(task.finish_epoch()["train_loss"])


def test_both_networks_have_an_optimizer_of_their_own() -> None:
    first, second = made().configure_optimizers()
    assert len(first.param_groups[0]["params"]) == len(second.param_groups[0]["params"]) == 2
    assert first.param_groups[0]["betas"] == (0.0, 0.9)
    assert not {id(p) for p in first.param_groups[0]["params"]} & {
        id(p) for p in second.param_groups[0]["params"]
    }


@pytest.mark.parametrize(("law", "deviation"), [("normal", 1.0), ("uniform", 1 / math.sqrt(3))])
def test_latent_vectors_have_the_law_that_is_named(law: str, deviation: float) -> None:
    drawn = latent(500, 128, law, torch.Generator().manual_seed(0))
    assert drawn.shape == (500, 128)
    assert drawn.mean().abs() < 0.02
    assert drawn.std().item() == pytest.approx(deviation, rel=0.02)
    assert (drawn.abs().max() <= 1) == (law == "uniform")
    assert torch.equal(drawn, latent(500, 128, law, torch.Generator().manual_seed(0)))

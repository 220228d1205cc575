"""Generation of images by a generator and a discriminator that learn from each other (DCGAN)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cbnorm.config.schema import OptimizerConfig
from cbnorm.data.batches import Batch
from cbnorm.models.dcgan import LATENT
from cbnorm.tasks.adversarial import Law, discriminator_loss, generator_loss, latent
from cbnorm.tasks.base import Metrics, Task
from cbnorm.tasks.classification import finite
from cbnorm.tasks.optimizers import create_optimizer
from cbnorm.tasks.precision import forward_precision


class Adversaries(nn.Module):
    """A generator and its discriminator, as one network for checkpoints and counts.

    Args:
        generator: Images ``(N, 3, H, W)`` in (-1, 1) from latent vectors ``(N, 128)``.
        discriminator: Logits ``(N,)`` from images, positive where taken for real.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, vectors: Tensor) -> Tensor:
        """Samples, ``(N, 3, H, W)``."""
        images: Tensor = self.generator(vectors)
        return images


class Gan(Task):
    """Trains generator and discriminator: one step of each for every batch of real images.

    Both losses come from one forward pass, and so do both gradients: neither network sees the other's new
    weights before the next batch. This is the order of chainer-gan-lib, whose settings are the paper's. The
    discriminator sees real images and samples in batches of their own, as the statistics of batch
    normalization ask for.

    Args:
        model: Both networks; real images are expected in [-1, 1].
        optimizer: Of each network, with its own state.
        law: Of the latent vectors, which are drawn from torch's global generator.
        steps: Training steps of the whole run.
        bf16: Run forward passes under bfloat16 autocast.
    """

    model: Adversaries

    def __init__(
        self,
        model: Adversaries,
        optimizer: OptimizerConfig,
        *,
        law: Law = "normal",
        steps: int = 1,
        bf16: bool = False,
    ) -> None:
        super().__init__(model, optimizer, steps=steps, bf16=bf16, sums=5)
        self.law = law
        self.automatic_optimization = False

    def training_step(self, batch: Batch, _index: int) -> None:
        """One step of both networks."""
        images = batch[0]
        generator, discriminator = self.model.generator, self.model.discriminator
        vectors = latent(len(images), LATENT, self.law).to(images.device)
        with forward_precision(images.device, bf16=self.bf16):
            real = discriminator(images).float()
            fake = discriminator(generator(vectors)).float()
        losses = generator_loss(fake), discriminator_loss(real, fake)
        # The samples' graph serves both; each gradient goes to one network only.
        self._gradient(losses[0], generator.parameters(), keep=True)
        self._gradient(losses[1], discriminator.parameters(), keep=False)
        for optimizer in self.all_optimizers():
            optimizer.step()
            optimizer.zero_grad()
        self._count(*losses, real, fake)

    def finish_epoch(self) -> Metrics:
        """Means since the last call: both losses and their sum, and per cent of images told rightly.

        ``train_loss``, which ends the run when it is not finite, is the sum, so that neither network can
        diverge unseen.
        """
        generator, discriminator, real, fake, count = self.totals.tolist()
        self.totals.zero_()
        count = max(count, 1)
        return {
            "train_loss": (generator + discriminator) / count,
            "generator_loss": finite(generator / count),
            "discriminator_loss": finite(discriminator / count),
            "real_accuracy": 100 * real / count,
            "fake_accuracy": 100 * fake / count,
        }

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer for the generator, one for the discriminator."""
        return [
            create_optimizer(net, self.optimizer) for net in (self.model.generator, self.model.discriminator)
        ]

    def _gradient(self, loss: Tensor, parameters: Iterable[Tensor], *, keep: bool) -> None:
        self.manual_backward(loss, retain_graph=keep, inputs=list(parameters))

    @torch.no_grad()
    def _count(self, generator: Tensor, discriminator: Tensor, real: Tensor, fake: Tensor) -> None:
        count = len(real)
        right = (real > 0).sum(), (fake < 0).sum()
        sums = [generator * count, discriminator * count, *right, right[0].new_tensor(count)]
        self.totals += torch.stack([value.float() for value in sums])

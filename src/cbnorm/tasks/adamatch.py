"""AdaMatch: a labelled source, an unlabelled target, one classifier (Table VI, Fig. 12)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cbnorm.config.schema import OptimizerConfig, TaskConfig
from cbnorm.data.views import Views
from cbnorm.tasks import adaptation
from cbnorm.tasks.base import Task
from cbnorm.tasks.classification import finite
from cbnorm.tasks.gradients import gradient_variances, summary
from cbnorm.tasks.precision import forward_precision
from cbnorm.tasks.schedules import rate_factor, set_rate

#: The ids of the domains.
SOURCE, TARGET = 0, 1
#: Sums over the epoch, in the order of the buffer; behind them lie the running means of both domains'
#: predictions and the variances of all gradients, which no epoch's end touches.
SUMS = ("loss", "source_loss", "target_loss", "correct", "sure", "source", "target")
#: Of which scalars the gradients are followed (Fig. 12: the first two).
FOLLOWED = ("logits.source", "logits.target", "loss.source", "loss.target")


class AdaMatch(Task):
    """Trains a classifier of two domains.

    A step computes the logits of all views together, then those of the source's views once more without the
    target, and mixes the two at random. What the sources differ in is in `options`.

    Args:
        model: ``model(images, clusters)`` gives logits; images have values from 0 to 255.
        optimizer: Which optimizer, with its options.
        options: The forms of the loss.
        num_classes: Logits per image.
        epochs: Epochs of the whole run.
        steps: Steps of the whole run.
        clustered: Whether the model takes the domain of every image as its cluster.
        bf16: Run forward passes under bfloat16 autocast.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerConfig,
        options: TaskConfig,
        *,
        num_classes: int,
        epochs: int,
        steps: int,
        clustered: bool,
        bf16: bool = False,
    ) -> None:
        learned = [p for p in model.parameters() if p.requires_grad]
        # In the buffer of sums, because that is what a checkpoint keeps.
        self._places = [len(SUMS), 2 * num_classes, epochs * len(FOLLOWED) * len(learned)]
        super().__init__(model, optimizer, steps=steps, bf16=bf16, sums=sum(self._places))
        self.learned, self.options, self.epochs, self.clustered = learned, options, epochs, clustered
        self.means.fill_(1 / num_classes)

    @property
    def means(self) -> Tensor:
        """Running means of predictions, (2 domains, classes), see :func:`adaptation.running_means`."""
        return self.totals.split(self._places)[1].view(2, -1)

    @property
    def variances(self) -> Tensor:
        """Variances of gradients, (epochs, 4 scalars, parameter tensors); zero for epochs to come."""
        return self.totals.split(self._places)[2].view(self.epochs, len(FOLLOWED), len(self.learned))

    @property
    def epoch(self) -> int:
        """The epoch of the present step, from 0."""
        return self.step * self.epochs // self.steps

    @property
    def follows(self) -> bool:
        """Whether gradients are followed at the present step: once an epoch, at its last batch that is full.

        The very last one may hold fewer images, of which a sum of logits has a smaller gradient.
        """
        batches = self.steps // self.epochs
        return self.step % batches == max(batches - 2, 0)

    @property
    def length(self) -> int:
        """Steps of the schedules of rate and mu; those that are run, unless `horizon` says otherwise."""
        return max(1, round(self.steps * self.options.horizon))

    def begin_step(self, step: int) -> None:
        """Prepare for a training step: the rate follows a schedule of :attr:`length` steps."""
        self.step = step
        factor = rate_factor(self.optimizer, min(step, self.length - 1), self.length)
        for optimizer in self.all_optimizers():
            set_rate(optimizer, self.optimizer.lr * factor)

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Logits in float32, ``(N, num_classes)``."""
        with forward_precision(images.device, bf16=self.bf16):
            logits: Tensor = self.model(images, clusters).float()
        return logits

    def training_step(self, batch: Views, _index: int) -> Tensor:
        """AdaMatch's loss of a batch (a scalar)."""
        source, target = self.losses(batch)
        weight = adaptation.ramp(self.step, self.length)
        # A weight of zero must not make nan of an infinite loss.
        loss = source + weight * target if weight else source
        if self.follows:
            self._follow(batch, source, target)
        n, m = len(batch.source_weak), len(batch.target_weak)
        with torch.no_grad():
            sums = torch.stack([loss * n, source * n, target * m])
            self.totals[:3] += sums
            self.totals[5:7] += self.totals.new_tensor([n, m])
        return loss

    def losses(self, batch: Views) -> tuple[Tensor, Tensor]:
        """The loss of the source and that of the target, before their weights."""
        n, m = len(batch.source_weak), len(batch.target_weak)
        together = self(torch.cat([batch[0], batch[1], batch[3], batch[4]]), self._ids(2 * n, 2 * m))
        source, target_weak, target_strong = together.split([2 * n, m, m])
        alone = self._alone(torch.cat([batch.source_weak, batch.source_strong]))
        share = torch.rand(source.shape).to(source)
        weak, strong = adaptation.interpolate(source, alone, share).chunk(2)
        with torch.no_grad():
            self.means.copy_(adaptation.running_means(self.means, weak, target_weak))
        pseudo = adaptation.pseudo_labels(
            weak,
            target_weak,
            threshold=self.options.threshold,
            form=self.options.alignment,
            means=self.means,
        )
        with torch.no_grad():
            correct = (weak.argmax(1) == batch.source_labels).sum()
            self.totals[3:5] += torch.stack([correct, pseudo.mask.sum()])
        return (
            adaptation.source_loss(weak, strong, batch.source_labels),
            adaptation.target_loss(target_strong, pseudo),
        )

    def finish_epoch(self) -> dict[str, float | None]:
        """Mean losses, accuracy on the source's weak views, sure target images, and Fig. 12's quantities."""
        sums = dict(zip(SUMS, self.totals[: len(SUMS)].tolist(), strict=True))
        self.totals[: len(SUMS)] = 0
        source, target = max(sums["source"], 1), max(sums["target"], 1)
        row = {
            "train_accuracy": 100 * sums["correct"] / source,
            "source_loss": sums["source_loss"] / source,
            "target_loss": sums["target_loss"] / target,
            "sure": 100 * sums["sure"] / target,
        }
        for name, variances in zip(FOLLOWED, self.variances[self.epoch], strict=True):
            row |= {f"gradients.{name}.{what}": value for what, value in summary(variances).items()}
        # A loss that is not finite ends the run; the others are then unknown.
        return {"train_loss": sums["loss"] / source} | {key: finite(value) for key, value in row.items()}

    def _ids(self, source: int, target: int) -> Tensor | None:
        if not self.clustered:
            return None
        counts = torch.tensor([source, target], device=self.device)
        ids = torch.tensor([SOURCE, TARGET], device=self.device)
        return ids.repeat_interleave(counts, output_size=source + target)

    def _alone(self, images: Tensor) -> Tensor:
        """Logits of source images among themselves; no running statistics change."""
        if self.options.second_forward == "inference":
            self.model.eval()
            logits: Tensor = self(images, self._ids(len(images), 0))
            self.model.train()
            return logits
        return self._frozen(images, self._ids(len(images), 0))

    def _frozen(self, images: Tensor, clusters: Tensor | None) -> Tensor:
        """Logits with the batch's own statistics, on copies of all running ones."""
        copies = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with forward_precision(images.device, bf16=self.bf16):
            logits: Tensor = functional_call(self.model, copies, (images, clusters)).float()
        return logits

    def _follow(self, batch: Views, source: Tensor, target: Tensor) -> None:
        """Note the variances of gradients of the summed logits of weak views, and of both losses."""
        found = [
            gradient_variances(self._frozen(images, self._ids(*counts)).sum(), self.learned)
            for images, counts in (
                (batch.source_weak, (len(batch.source_weak), 0)),
                (batch.target_weak, (0, len(batch.target_weak))),
            )
        ]
        found += [gradient_variances(loss, self.learned) for loss in (source, target)]
        self.variances[self.epoch] = torch.stack(found)

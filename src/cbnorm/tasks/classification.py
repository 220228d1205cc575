"""Image classification with softmax cross-entropy."""

import cbnorm._torchvision  # noqa: F401, I001  (before lightning)
import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.config.schema import OptimizerConfig
from cbnorm.data.batches import Batch
from cbnorm.tasks.optimizers import create_optimizer


class Classification(lightning.LightningModule):
    """Trains a classifier; the reference for every loop that drives it.

    Args:
        model: ``model(images, clusters)`` gives logits ``(N, num_classes)``.
        optimizer: Which optimizer, with its options.
        bf16: Run the forward pass under bfloat16 autocast (weights, losses and statistics stay float32).
    """

    def __init__(self, model: nn.Module, optimizer: OptimizerConfig, *, bf16: bool = False) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.bf16 = bf16
        # Sums over the epoch stay on the device: reading them each step would wait for it.
        self.register_buffer("totals", torch.zeros(3), persistent=False)
        self.totals: Tensor

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Logits in float32, ``(N, num_classes)``."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(images, clusters).float()

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Mean cross-entropy of a batch (a scalar)."""
        images, labels, clusters = batch
        logits = self(images, clusters)
        loss = F.cross_entropy(logits, labels)
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            self.totals += torch.stack(
                [loss * len(labels), correct.float(), correct.new_tensor(len(labels)).float()]
            )
        return loss

    def finish_epoch(self) -> dict[str, float]:
        """Training loss and accuracy (per cent) since the last call."""
        loss, correct, count = self.totals.tolist()
        self.totals.zero_()
        return {"train_loss": loss / max(count, 1), "train_accuracy": 100 * correct / max(count, 1)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The configured optimizer at a constant rate."""
        return create_optimizer(self.model, self.optimizer)

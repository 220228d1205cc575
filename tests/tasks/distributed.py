"""A few Lightning steps of every norm, by one process or as one of several; the last weights go to a file.

``python distributed.py FILE NORM ...``; RANK and WORLD_SIZE say which of how many processes this is.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
import torch

from cbnorm.config.compose import compose_run
from cbnorm.models import ShallowCNN
from cbnorm.norms import create_norm
from cbnorm.tasks.classification import Classification

_OPTIONS = {name: {"num_clusters": 3} for name in ("scb", "scb_base")} | {
    name: {"num_components": 3} for name in ("mn", "ucb")
}


def task(norm: str) -> Classification:
    torch.manual_seed(0)
    options = _OPTIONS.get(norm, {})
    model = ShallowCNN(10, lambda features: create_norm(norm, features, **options), (1, 2, 3, 4))
    # A large eps keeps AdamW smooth where gradients vanish and their sign is rounding.
    return Classification(model, compose_run(["optimizer.lr=0.01", "optimizer.eps=0.01"]).optimizer)


class Shares:
    """Each batch's share of one process: equal shares, so that the mean of means is the mean."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        draw = torch.Generator().manual_seed(1)
        for _ in range(len(self)):
            images = torch.randn(8, 3, 32, 32, generator=draw)
            labels, clusters = (torch.randint(n, (8,), generator=draw) for n in (10, 3))
            yield tuple(part[self.rank :: self.size].contiguous() for part in (images, labels, clusters))


def train(norm: str, rank: int, size: int) -> dict[str, torch.Tensor]:
    trained = task(norm)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=size,
        strategy="ddp" if size > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(trained, Shares(rank, size))
    return trained.model.state_dict()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    target, *norms = sys.argv[1:]
    rank, size = (
        int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))
    )
    states = {norm: train(norm, rank, size) for norm in norms}
    if rank == 0:
        torch.save(states, target)

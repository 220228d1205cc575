"""Processes that train the same network on the same data in different ways, when they are told to.

Started by bench_train.py, one process per contestant: ``python train_contestants.py KIND SETTINGS``. Each
does its first step, says so, and then waits for lines ``WARM STEPS`` on its standard input: it trains as many
steps, times the later ones and answers with a line of JSON. So contestants take turns: other load hits all.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train_parts import (
    FOREVER,
    MEAN,
    STD,
    Endless,
    FinishedError,
    Settings,
    StepTimes,
    Turns,
    batches_of,
    layout_of,
    split_of,
    task_of,
    timed,
)


def hand(settings: Settings, turns: Turns) -> Any:
    """(a) A loop written for this network alone, without a library around it: the limit."""
    import torch
    from torch.nn import functional as F

    from cbnorm.data import augment
    from cbnorm.data.streams import generator
    from cbnorm.runs.build import build_network
    from cbnorm.tasks.optimizers import create_optimizer
    from cbnorm.tasks.precision import forward_precision

    config, device = settings.config(), settings.torch_device
    size, seed, layout = config.trainer.batch_size, config.seed, layout_of(config)
    split = split_of(config, settings, settings.images)
    images = split.images.to(device).contiguous(memory_format=layout).permute(0, 2, 3, 1)
    labels = split.labels.to(device)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
    shape = (1, 3, settings.size, settings.size)
    scale, shift = (
        values.float().to(device).view(1, 3, 1, 1).expand(shape).contiguous(memory_format=layout)
        for values in (1 / (255 * std), -mean / std)
    )
    varied = augment.Augmentation(**config.dataset.augmentation.model_dump())
    model = build_network(config, settings.classes).to(device).train()
    optimizer = create_optimizer(model, config.optimizer)
    bf16 = config.trainer.precision == "bf16"
    try:
        for epoch in itertools.count():
            order = torch.randperm(len(labels), generator=generator(seed, "order", epoch)).to(device)
            drawn = augment.draw(len(labels), generator(seed, "augmentation", epoch), varied).to(device)
            for first in range(0, len(labels), size):
                turns.tick()
                rows = order[first : first + size]
                pixels = images.index_select(0, rows).permute(0, 3, 1, 2).float()
                x = augment.apply(pixels, drawn.part(first, first + size)).contiguous(memory_format=layout)
                x = torch.addcmul(shift, x, scale)
                with forward_precision(device, bf16=bf16):
                    logits = model(x).float()
                loss = F.cross_entropy(logits, labels.index_select(0, rows))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    except FinishedError:
        return model


def paced(turns: Turns) -> Any:
    """A callback that waits for its turn before every step."""
    import cbnorm._torchvision  # noqa: F401  (before lightning)

    import lightning

    class Pace(lightning.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            turns.tick()

    return Pace()


def engine(settings: Settings, turns: Turns, how: Any = "lightning") -> Any:
    """(b) What `cbnorm` runs: its task, its batches, its book-keeping after every step."""
    import torch

    from cbnorm.runs import resume
    from cbnorm.runs.drive import drive
    from cbnorm.runs.journal import Journal
    from cbnorm.tasks.classification import ClassificationReader

    config = settings.config()
    torch.set_num_threads(settings.threads)
    # Checkpoints are timed apart; here they would fall into some turns and not into others.
    resume.INTERVAL = FOREVER
    task, batches = task_of(config, settings), batches_of(config, settings)
    journal = Journal(Path(), "0", {}, ClassificationReader(settings.classes, [], []))
    checkpointer = resume.Checkpointer(Path(), "0", config.seed, journal, FOREVER)
    given = resume.TrainingBatches(Endless(batches) if how == "lightning" else batches)
    with contextlib.suppress(FinishedError):
        callbacks = [paced(turns), checkpointer]
        drive(task, given, callbacks, settings.torch_device, epochs=FOREVER, engine=how)
    return task.model


def loop(settings: Settings, turns: Turns) -> Any:
    """The engine's plain loop; on a GPU whole steps as one graph."""
    return engine(settings, turns, "loop")


def loader(settings: Settings, turns: Turns) -> Any:
    """(c) What one writes with Lightning and torchvision: images from PIL, worker processes, `precision`."""
    import cbnorm._torchvision  # noqa: F401  (before lightning)

    import lightning
    import torch
    from torch.nn import functional as F
    from torchvision import datasets, transforms

    from cbnorm.runs.build import build_network
    from cbnorm.tasks.optimizers import create_optimizer

    config = settings.config()
    torch.set_num_threads(settings.threads)
    split = split_of(config, settings, settings.images)

    class Images(datasets.CIFAR10):
        """Torchvision's data set over the same images, again and again."""

        def __init__(self, transform: Any) -> None:
            self.data = split.images.permute(0, 2, 3, 1).numpy()
            self.targets, self.transform, self.target_transform = split.labels.tolist(), transform, None

        def __len__(self) -> int:
            return 1000 * len(self.data)

        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index % len(self.data))

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = build_network(config, settings.classes)

        def training_step(self, batch: Any, _: int) -> Any:
            images, labels = batch
            return F.cross_entropy(self.model(images.contiguous(memory_format=layout_of(config))), labels)

        def configure_optimizers(self) -> Any:
            return create_optimizer(self.model, config.optimizer)

    a = config.dataset.augmentation
    turned = transforms.RandomAffine(
        a.rotation, scale=(1 - a.zoom, 1 + a.zoom), interpolation=transforms.InterpolationMode.BILINEAR
    )
    varied = transforms.Compose(
        [transforms.RandomHorizontalFlip(), turned, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    batches = torch.utils.data.DataLoader(
        Images(varied),
        config.trainer.batch_size,
        shuffle=True,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        pin_memory=settings.device == "cuda",
    )
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="gpu" if settings.device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if config.trainer.precision == "bf16" else "32-true",
        callbacks=[paced(turns)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with contextlib.suppress(FinishedError):
        trainer.fit(module, batches)
    return module.model


def epochs(settings: Settings, turns: Turns) -> None:
    """Three whole epochs as in a run, a third of the images read after each: what is not a training step."""
    import torch

    from cbnorm.runs import checkpoint, resume
    from cbnorm.runs.drive import drive
    from cbnorm.runs.journal import Journal
    from cbnorm.tasks.classification import ClassificationReader

    config = settings.config()
    torch.set_num_threads(settings.threads)
    task, batches = task_of(config, settings), batches_of(config, settings)
    val = batches_of(config, settings, count=max(1, settings.images // 2), train=False)
    saves: list[float] = []
    save, resume.INTERVAL = checkpoint.save, 0
    checkpoint.save = lambda folder, state: saves.append(timed(lambda: save(folder, state)))
    steps = StepTimes(turns)
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name), "0", {}, ClassificationReader(settings.classes, val, val))
        checkpointer = resume.Checkpointer(Path(name), "0", config.seed, journal, len(batches))
        given = resume.TrainingBatches(batches)
        drive(task, given, [steps.callback(), journal, checkpointer], settings.torch_device, epochs=3)
    last = journal.history[-1]["seconds"]
    turns.send(
        {
            "steps": sum(steps.seconds[-len(batches) :]),
            "training": last["training"] - sum(saves[-len(batches) : -1]),
            "reading": last["reading"],
            "save": statistics.median(saves),
            "images": len(batches) * config.trainer.batch_size,
        }
    )


def check(settings: Settings, turns: Turns) -> None:
    """How far the engine's loops lie apart: the largest relative difference of weights after two epochs."""
    import torch

    from cbnorm.runs.drive import drive
    from cbnorm.runs.resume import TrainingBatches

    torch.set_num_threads(settings.threads)
    config, weights = settings.config(), []
    for how in ("lightning", "loop"):
        task = task_of(config, settings)
        given = TrainingBatches(batches_of(config, settings))
        drive(task, given, [], settings.torch_device, epochs=2, engine=how)  # type: ignore[arg-type]
        weights.append([value.detach().float().cpu() for value in task.model.parameters()])
    differences = [((a - b).norm() / a.norm().clamp_min(1e-6)).item() for a, b in zip(*weights, strict=True)]
    turns.send({"largest": max(differences)})


KINDS: dict[str, Callable[[Settings, Turns], Any]] = {
    "hand": hand,
    "engine": engine,
    "loop": loop,
    "loader": loader,
    "epochs": epochs,
    "check": check,
}


def main() -> None:
    """Be a contestant; answers go where standard output went, everything else to the error output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    settings = Settings(**json.loads(sys.argv[2]))
    turns = Turns(sys.stdin.readline, lambda answer: print(json.dumps(answer), file=answers), settings)
    KINDS[sys.argv[1]](settings, turns)
    # Workers of loaders are not waited for.
    for worker in multiprocessing.active_children():
        worker.terminate()
    os._exit(0)


if __name__ == "__main__":
    main()

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
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Networks, as words of a config, with the number of classes and the size of a batch.
NETWORKS: dict[str, tuple[list[str], int, int]] = {
    "shallow_cnn": (["dataset=cifar10"], 10, 256),
    "densenet": (["dataset=cifar100", "model=densenet"], 100, 64),
    "vit": (["dataset=cifar100", "model=vit"], 100, 32),
}
_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_FOREVER = 1_000_000_000


@dataclass(frozen=True)
class Settings:
    """What is trained, the same for all contestants.

    Attributes:
        network: A key of :data:`NETWORKS`.
        batch: Images per batch; 0: the network's own.
        size: Height and width of the images.
        device: ``cpu`` or ``cuda``.
        threads: torch's threads.
        precision: ``bf16`` or ``fp32``.
        images: How many there are, in batches.
        workers: Of a DataLoader.
    """

    network: str = "shallow_cnn"
    batch: int = 0
    size: int = 32
    device: str = "cpu"
    threads: int = 1
    precision: str = "bf16"
    images: int = 10
    workers: int = 2

    def config(self) -> Any:
        """The run that is trained, with batch normalization."""
        from cbnorm.config.compose import compose_run

        words, _, batch = NETWORKS[self.network]
        return compose_run(
            [
                *words,
                "norm=bn",
                f"dataset.image_size={self.size}",
                f"trainer.batch_size={self.batch or batch}",
                f"trainer.precision={self.precision}",
                f"trainer.threads={self.threads}",
            ]
        )

    @property
    def classes(self) -> int:
        return NETWORKS[self.network][1]

    @property
    def torch_device(self) -> Any:
        import torch

        return torch.device("cuda", 0) if self.device == "cuda" else torch.device("cpu")


def environment(threads: int) -> dict[str, str]:
    """What the engine's processes are started with: threads, and an allocator that keeps large tensors."""
    from cbnorm.runs.sweep import ALLOCATOR

    return ALLOCATOR | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "KINETO_LOG_LEVEL": "99",
    }


def name_of(device: str) -> str:
    """The device's name for the tables."""
    if device == "cpu":
        return platform.machine()
    import torch

    return torch.cuda.get_device_name()


def split_of(config: Any, settings: Settings, batches: int) -> Any:
    """Random images."""
    import torch

    from cbnorm.data.splits import Split

    count, generator = batches * config.trainer.batch_size, torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (count, 3, settings.size, settings.size), generator=generator, dtype=torch.uint8
    )
    return Split(images, torch.randint(0, settings.classes, (count,), generator=generator))


def layout_of(config: Any) -> Any:
    import torch

    return torch.channels_last if config.trainer.channels_last else torch.contiguous_format


def batches_of(config: Any, settings: Settings, *, count: int = 0, train: bool = True) -> Any:
    """The engine's batches."""
    from cbnorm.data.augment import Augmentation
    from cbnorm.data.batches import Batches

    return Batches(
        split_of(config, settings, count or settings.images),
        None,
        batch_size=config.trainer.batch_size,
        mean=_MEAN,
        std=_STD,
        seed=config.seed,
        augmentation=Augmentation(**config.dataset.augmentation.model_dump()) if train else None,
        shuffle=train,
        device=settings.torch_device,
        memory_format=layout_of(config),
    )


def task_of(config: Any, settings: Settings) -> Any:
    """The engine's task."""
    from cbnorm.runs.build import build_network
    from cbnorm.tasks.classification import Classification

    network = build_network(config, settings.classes)
    return Classification(network, config.optimizer, steps=_FOREVER, bf16=config.trainer.precision == "bf16")


def endless(batches: Any) -> Iterator[Any]:
    """Epoch after epoch."""
    return itertools.chain.from_iterable(batches.epoch(epoch) for epoch in itertools.count())


class FinishedError(Exception):
    """There is no more to train."""


class Turns:
    """Says when to train and takes the time.

    Args:
        receive: Gives the next order, ``WARM STEPS``, empty when there is none.
        send: Takes an answer.
        settings: For the device.
    """

    def __init__(
        self, receive: Callable[[], str], send: Callable[[dict[str, Any]], None], settings: Settings
    ) -> None:
        self.receive, self.send, self.settings = receive, send, settings
        self._steps = self._plan()

    def tick(self) -> None:
        """Called before every step; returns when it is time for it."""
        next(self._steps)

    def _plan(self) -> Iterator[None]:
        yield
        self._wait()
        self.send({"first": True})
        while words := self.receive().split():
            warm, count = map(int, words)
            for _ in range(warm):
                yield
            self._wait()
            began, used = time.perf_counter(), cpu_seconds()
            for _ in range(count):
                yield
            self._wait()
            spent = {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - used}
            self.send(spent | {"peak": peak(self.settings.device)})
        raise FinishedError

    def _wait(self) -> None:
        if self.settings.device == "cuda":
            import torch

            torch.cuda.synchronize()


def cpu_seconds() -> float:
    """Processor time of this process and of its workers."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    total = spent.ru_utime + spent.ru_stime
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def peak(device: str) -> float:
    """Largest memory so far in MB: what torch took of a GPU, or this process and its workers resident."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    total = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for worker in multiprocessing.active_children():
        lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
        total += 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return total / 1e6


def hand(settings: Settings, turns: Turns) -> Any:
    """(a) A loop written for this network alone, without a library around it: the limit."""
    import torch
    from torch.nn import functional as F

    from cbnorm.data import augment
    from cbnorm.data.streams import generator
    from cbnorm.runs.build import build_network
    from cbnorm.tasks.optimizers import create_optimizer

    config, device = settings.config(), settings.torch_device
    size, seed, layout = config.trainer.batch_size, config.seed, layout_of(config)
    split = split_of(config, settings, settings.images)
    images = split.images.to(device).contiguous(memory_format=layout).permute(0, 2, 3, 1)
    labels = split.labels.to(device)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (_MEAN, _STD))
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
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
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


class Endless:
    """An epoch without end, so that no end of an epoch falls into a turn."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return _FOREVER

    def epoch(self, _epoch: int, _start: int = 0) -> Iterator[Any]:
        return endless(self.batches)


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
    resume.INTERVAL = _FOREVER
    task, batches = task_of(config, settings), batches_of(config, settings)
    journal = Journal(Path(), "0", {}, ClassificationReader(settings.classes, [], []))
    checkpointer = resume.Checkpointer(Path(), "0", config.seed, journal, _FOREVER)
    given = resume.TrainingBatches(Endless(batches) if how == "lightning" else batches)
    with contextlib.suppress(FinishedError):
        callbacks = [paced(turns), checkpointer]
        drive(task, given, callbacks, settings.torch_device, epochs=_FOREVER, engine=how)
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
        [transforms.RandomHorizontalFlip(), turned, transforms.ToTensor(), transforms.Normalize(_MEAN, _STD)]
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


class StepTimes:
    """How long each step takes, from its batch to its end."""

    def __init__(self, turns: Turns) -> None:
        self.seconds: list[float] = []
        self._wait = turns._wait  # noqa: SLF001  (of this file)

    def callback(self) -> Any:
        """Told when steps begin and end."""
        import lightning

        times = self

        class Clock(lightning.Callback):
            def on_train_batch_start(self, *_: Any) -> None:
                self.began = time.perf_counter()

            def on_train_batch_end(self, *_: Any) -> None:
                times._wait()
                times.seconds.append(time.perf_counter() - self.began)

        return Clock()


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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

"""What contestants of the training benchmark share: the run, its data and network, turns and clocks."""

import itertools
import multiprocessing
import os
import resource
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
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
FOREVER = 1_000_000_000


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
        mean=MEAN,
        std=STD,
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
    return Classification(network, config.optimizer, steps=FOREVER, bf16=config.trainer.precision == "bf16")


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
        self.wait()
        self.send({"first": True})
        while words := self.receive().split():
            warm, count = map(int, words)
            for _ in range(warm):
                yield
            self.wait()
            began, used = time.perf_counter(), cpu_seconds()
            for _ in range(count):
                yield
            self.wait()
            spent = {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - used}
            self.send(spent | {"peak": peak(self.settings.device)})
        raise FinishedError

    def wait(self) -> None:
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


class Endless:
    """An epoch without end, so that no end of an epoch falls into a turn."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return FOREVER

    def epoch(self, _epoch: int, _start: int = 0) -> Iterator[Any]:
        return endless(self.batches)


class StepTimes:
    """How long each step takes, from its batch to its end."""

    def __init__(self, turns: Turns) -> None:
        self.seconds: list[float] = []
        self.wait = turns.wait

    def callback(self) -> Any:
        """Told when steps begin and end."""
        import lightning

        times = self

        class Clock(lightning.Callback):
            def on_train_batch_start(self, *_: Any) -> None:
                self.began = time.perf_counter()

            def on_train_batch_end(self, *_: Any) -> None:
                times.wait()
                times.seconds.append(time.perf_counter() - self.began)

        return Clock()


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

"""Whole training steps as one CUDA graph: augmentation, forward, backward, optimizer, launched at once.

Networks of this size leave a GPU waiting for the next of a few hundred small kernels; a graph launches them
all together. **No GPU was at hand when this was written: the recording was never run** (the steps through
fixed buffers were, on a CPU, docs/engine.md). Hence ``trainer.engine=loop`` is not the default anywhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from cbnorm.data.augment import Parameters
from cbnorm.data.batches import Batches
from cbnorm.errors import CbnormError
from cbnorm.tasks.base import Task
from cbnorm.tasks.classification import Classification

#: Steps before the recording. They train as any others do, and choose kernels and make what is made once.
WARM = 3

Order = tuple[Tensor, Parameters | None]


class Replayed:
    """Work on tensors of fixed shapes that a GPU records once and then repeats.

    Args:
        work: Reads its inputs, changes state in place, returns one tensor; nothing in it waits for the GPU.
        inputs: Of the shapes and types that will come.
        record: Record a CUDA graph after the first calls; otherwise `work` is called every time.
    """

    def __init__(self, work: Callable[..., Tensor], inputs: tuple[Tensor, ...], *, record: bool) -> None:
        self.work, self.record = work, record
        self.buffers = tuple(value.clone() for value in inputs)
        self.calls = 0
        self._graph: Any = None
        self._result: Tensor

    def __call__(self, *values: Tensor) -> Tensor:
        """Do the work; the tensor that is returned is overwritten by the next call."""
        for buffer, value in zip(self.buffers, values, strict=True):
            buffer.copy_(value)
        self.calls += 1
        if not self.record:
            return self.work(*self.buffers)
        if self.calls <= WARM:
            return self._aside()
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._result = self.work(*self.buffers)
        self._graph.replay()
        return self._result

    def _aside(self) -> Tensor:
        """On a stream of its own, as recording will be."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            result = self.work(*self.buffers)
        torch.cuda.current_stream().wait_stream(aside)
        return result


class GraphSteps:
    """Training steps that make their batch themselves, so that it is part of the graph.

    Args:
        task: A classifier.
        optimizer: Its optimizer.
        batches: Its batches, with the place at which the run goes on.
        record: Record a CUDA graph.
    """

    def __init__(self, task: Task, optimizer: torch.optim.Optimizer, batches: Any, *, record: bool) -> None:
        self.task, self.optimizer, self.batches, self.record = task, optimizer, batches, record
        self.source: Batches = batches.batches
        self._full: Replayed | None = None

    @classmethod
    def suited(cls, task: Task, optimizer: torch.optim.Optimizer, batches: Any) -> bool:
        """Whether all steps of a training are the same work on other numbers."""
        source = getattr(batches, "batches", None)
        return (
            isinstance(task, Classification)
            and task.optimizer.schedule == "constant"
            and isinstance(optimizer, torch.optim.Adam)
            and isinstance(source, Batches)
            and source.shuffle
            and source.resident
        )

    def __iter__(self) -> Iterator[Order]:
        """What each batch of the epoch is made of."""
        epoch, size = self.batches.sampler.epoch, self.source.batch_size
        order, params = self.source.drawn(self.batches.first + epoch)
        assert order is not None  # noqa: S101 (tells the type checker; suited() has seen to it)
        start = size * (self.batches.start if epoch == 0 else 0)
        for first in range(start, min(len(order), size * len(self.source)), size):
            part = None if params is None else params.part(first, first + size)
            yield order[first : first + size], part

    def step(self, batch: Order, _index: int) -> Tensor:
        """Train on a batch; the loss, which the next step overwrites."""
        rows, params = batch
        if len(rows) < self.source.batch_size:
            return self._train(rows, params)
        drawn = () if params is None else tuple(value for value in params if value is not None)
        if self._full is None:
            self._full = Replayed(self._work(params), (rows, *drawn), record=self.record)
        first = self.record and self._full.calls == WARM
        before = self._largest().clone() if first else None
        loss = self._full(rows, *drawn)
        if before is not None and torch.equal(before, self._largest()):
            # Such as work that was recorded on another device: an empty graph can be replayed as well.
            raise CbnormError("the recorded step changes no weights here: use trainer.engine=lightning")
        return loss

    def _largest(self) -> Tensor:
        """The largest of the weights that the optimizer has."""
        given = (p for group in self.optimizer.param_groups for p in group["params"])
        return max(given, key=torch.numel).detach()

    def _work(self, params: Parameters | None) -> Callable[..., Tensor]:
        if params is None:
            return lambda rows: self._train(rows, None)
        given = [name for name, value in params._asdict().items() if value is not None]
        nothing = Parameters(*(None for _ in params))
        return lambda rows, *drawn: self._train(
            rows, nothing._replace(**dict(zip(given, drawn, strict=True)))
        )

    def _train(self, rows: Tensor, params: Parameters | None) -> Tensor:
        loss = cast("Tensor", self.task.training_step(self.source.batch(rows, params), 0))
        self.optimizer.zero_grad()
        loss.backward()
        with self._recordable():
            self.optimizer.step()
        return loss.detach()

    @contextmanager
    def _recordable(self) -> Iterator[None]:
        """The optimizer wants to be told that it is recorded; a checkpoint must not keep that."""
        recording = self.record and torch.cuda.is_current_stream_capturing()
        for group in self.optimizer.param_groups:
            group["capturable"] = recording
        yield
        for group in self.optimizer.param_groups:
            group["capturable"] = False

"""Reading a generator: nothing is selected, samples are judged, grids are kept."""

from collections.abc import Callable

from torch import Tensor

from cbnorm.tasks.base import Metrics, Reading
from cbnorm.tasks.gan import Gan
from cbnorm.tasks.samples import Judge
from cbnorm.tasks.sampling import grid_png, sample, sample_by_batch

#: Samples in a grid.
SHOWN = 64


class GanReader:
    """Judges samples at the moments, twice: in evaluation mode, and as ``batch`` by statistics of the batch.

    Both are made from the same latent vectors, at every moment. ``floor`` has what as many held-out real
    images get.

    Args:
        judge: Makes what measures samples; called with the first reading, since it looks at many real images.
        vectors: Latent vectors ``(N, 128)``; the grids show the first 64.
        batch_size: Samples that share their statistics under ``batch``: that of training.
    """

    def __init__(self, judge: Callable[[], Judge], vectors: Tensor, batch_size: int) -> None:
        self._make, self.vectors, self.batch_size = judge, vectors, batch_size
        self._judge: Judge | None = None

    @property
    def judge(self) -> Judge:
        """What measures samples."""
        if self._judge is None:
            self._judge = self._make()
        return self._judge

    def validate(self, task: Gan) -> Metrics:
        """Nothing: no image is held back for a choice, because none is made."""
        return {}

    def score(self, row: Metrics) -> float | None:
        """None: the last weights count."""
        return None

    def read(self, task: Gan) -> Reading:
        """Metrics of the samples, and a grid of the first 64 under each condition."""
        generator = task.model.generator
        images = sample(generator, self.vectors, self.batch_size)
        by_batch = sample_by_batch(generator, self.vectors, self.batch_size)
        metrics = self.judge(images)
        metrics |= {f"batch.{name}": value for name, value in self.judge(by_batch).items()}
        metrics |= {f"floor.{name}": value for name, value in self.judge.floor.items()}
        grids = {"samples.png": grid_png(images[:SHOWN]), "batch_samples.png": grid_png(by_batch[:SHOWN])}
        return Reading(metrics, files=grids)

"""What a run will cost, from what others cost on this machine; a cautious guess where none has run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

from cbnorm.config.canonical import canonical
from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog
from cbnorm.errors import CbnormError
from cbnorm.machine import cores, cpu_name, device_of, gpu_name
from cbnorm.runs.identity import digest
from cbnorm.runs.limit import CHECKPOINT_INTERVAL
from cbnorm.runs.moments import moment_epochs
from cbnorm.runs.records import Record
from cbnorm.runs.store import Store

#: Images per second that are assumed where nothing was measured: less than the slowest layer reaches with the
#: paper's network, on one CPU core and on a current GPU.
GUESSED_SPEED = {"cpu": 60.0, "cuda": 3000.0}
#: Seconds until the first batch where nothing was measured: reading the data, fitting the partition.
GUESSED_START = 30.0
#: An image is read without its gradients.
_READING = 1 / 3
_CAUTION = 1.5

Place = tuple[str, str, int | None, str | None]


@dataclass(frozen=True)
class Sample:
    """What one run measured.

    Attributes:
        kind: Key of its work per image.
        family: The same whatever the norm.
        place: Where; None for a run that has not ended, which may have come from anywhere.
        training: Seconds per image and epoch.
        reading: Seconds per image that is read for validation or test.
        start: Seconds that belong to no epoch; None where they are not known.
    """

    kind: str
    family: str
    place: Place | None
    training: float
    reading: float
    start: float | None


@dataclass(frozen=True)
class Cost:
    """What one run costs, in seconds.

    Attributes:
        start: Until its first batch.
        epoch: Per epoch, readings included.
        pause: Longest time between two batches, when nothing can be saved.
        speed: Images per second in training.
        source: Where that is known from.
    """

    start: float
    epoch: float
    pause: float
    speed: float
    source: str

    def need(self, epochs: int) -> float:
        """Seconds until a run with so many epochs left has saved a checkpoint or ended, cautiously."""
        return _CAUTION * (self.start + min(CHECKPOINT_INTERVAL + self.pause, epochs * self.epoch))


def here(device: str) -> Place:
    """What must be equal for times to be comparable: device, processor, number of cores, GPU."""
    return device, cpu_name(), cores(), gpu_name() if device == "cuda" else None


def counts(config: RunConfig) -> dict[str, int]:
    """How many images a run trains on, validates on and is tested on."""
    d = config.dataset
    there = catalog.facts(d.name, d.folder).counts
    train = d.train_images or there["train"] - d.val_images
    return {"train": train, "val": d.val_images, "test": d.test_images or there["test"]}


class Speeds:
    """Everything that some stores know about speed.

    Args:
        stores: Their records and histories are read once.
    """

    def __init__(self, stores: Iterable[Store]) -> None:
        self.samples = [sample for store in stores for sample in _samples(store)]

    def cost(self, config: RunConfig) -> Cost:
        """What a run costs on this machine, by the best that is known."""
        device = device_of(config.trainer.accelerator)
        found, source, typical = self._known(config, device)
        if found:
            training = typical(sample.training for sample in found)
            reading = typical(sample.reading for sample in found)
        else:
            training = 1 / GUESSED_SPEED[device]
            reading = _READING * training
        starts = [sample.start for sample in found if sample.start is not None]
        images, epochs = counts(config), config.trainer.max_epochs
        # After a moment the test images are read twice.
        moments = len(set(moment_epochs(config.trainer.moments, epochs).values()))
        return Cost(
            start=typical(starts) if starts else GUESSED_START,
            epoch=images["train"] * training
            + (images["val"] + 2 * images["test"] * moments / epochs) * reading,
            pause=(images["val"] + 2 * images["test"]) * reading,
            speed=1 / training,
            source=source,
        )

    def _known(
        self, config: RunConfig, device: str
    ) -> tuple[list[Sample], str, Callable[[Iterable[float]], float]]:
        kind, family = _keys(canonical(config))
        place = here(device)
        same = [sample for sample in self.samples if sample.kind == kind]
        if found := [sample for sample in same if sample.place == place]:
            return found, "measured here", median
        if found := [sample for sample in same if sample.place is None]:
            return found, "runs that have not ended", median
        if found := [s for s in self.samples if s.family == family and s.place == place]:
            return found, "slowest norm here", max
        if found := [sample for sample in same if sample.place is not None and sample.place[0] == device]:
            return found, "another machine", max
        return [], "guessed", max


def _keys(values: Mapping[str, Any]) -> tuple[str, str]:
    """Keys of a run's canonical values: of its work per image, and of that whatever the norm."""
    trainer = {key: value for key, value in values["trainer"].items() if key not in {"max_epochs", "moments"}}
    family = {"trainer": trainer, "model": values["model"], "size": values["dataset"]["image_size"]}
    return digest(family | {"norm": values["norm"]}), digest(family)


def _samples(store: Store) -> Iterator[Sample]:
    records, damaged = store.survey()
    ended = {record["id"] for record in records}
    done = {record["id"]: record for record in records if record["status"] == "done"}
    for run in store.runs():
        if run in done or (run not in ended and run not in damaged):
            # What can't be read tells no speed; its own command says what is wrong.
            with suppress(CbnormError):
                yield from _sample(done.get(run) or store.description(run), store.history(run))


def _sample(content: Record, history: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    values = content["identity"]["config"]
    try:
        images = content["data"]["images"] if "data" in content else _images(values["dataset"])
        hardware = content.get("hardware")
        moments = set(moment_epochs(values["trainer"]["moments"], values["trainer"]["max_epochs"]).values())
        read = sum(images["val"] + (2 * images["test"] if row["epoch"] in moments else 0) for row in history)
        training, reading = (sum(row["seconds"][key] for row in history) for key in ("training", "reading"))
        # Earlier versions counted only the last part of a run that went on from a checkpoint.
        start = content["seconds"]["total"] - training - reading if hardware else -1.0
        kind, family = _keys(values)
        yield Sample(
            kind=kind,
            family=family,
            place=_place(hardware) if hardware else None,
            training=training / (images["train"] * len(history)),
            reading=reading / read,
            start=start if start > 0 else None,
        )
    except (KeyError, TypeError, ZeroDivisionError):
        return  # written by another version, or not an epoch long


def _place(hardware: Mapping[str, Any]) -> Place:
    return hardware["device"], hardware["cpu"], hardware["cores"], hardware.get("gpu")


def _images(dataset: Mapping[str, Any]) -> dict[str, int]:
    there = catalog.find(dataset["name"]).counts
    train = dataset["train_images"] or there["train"] - dataset["val_images"]
    return {"train": train, "val": dataset["val_images"], "test": dataset["test_images"] or there["test"]}

"""What figures are made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cbnorm.report.blocks import Block
from cbnorm.report.costs import bench_file
from cbnorm.report.endpoints import Record
from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.drawing import Drawing
from cbnorm.report.summary import Collected, everything

#: The figures that could be drawn; or why there is none.
Made = list[Drawing] | str


@dataclass(frozen=True)
class Material:
    """What figures are made of.

    Attributes:
        evidence: Records and what lies beside them.
        entries: All experiments, collected and judged.
        bench: Folder of timings, ``results/bench`` of a checkout.
    """

    evidence: Evidence
    entries: list[Collected]
    bench: Path

    @classmethod
    def of(cls, evidence: Evidence) -> "Material":
        """What these records give."""
        return cls(evidence, list(everything(evidence, {})), bench_file().parent)

    @property
    def looks(self) -> Path:
        """Folder of what was seen in trained networks, a file per run."""
        return self.evidence.looks

    def entry(self, experiment: str) -> Collected | None:
        """One experiment, if it is there."""
        return next((entry for entry in self.entries if entry.found.experiment == experiment), None)

    def blocks(self, experiment: str) -> Iterator[Block]:
        """The blocks of an experiment that have runs."""
        entry = self.entry(experiment)
        yield from (block for block in (entry.found.blocks if entry else []) if block.filled)

    @property
    def records(self) -> dict[str, Record]:
        """All records by id."""
        return self.evidence.records.by_id


Maker = Callable[[Material], Made]


def slug(*words: str) -> str:
    """Words as a name of a file.

    >>> slug("CIFAR-10", "small")
    'cifar-10-small'
    """
    joined = "-".join(word for word in words if word).lower()
    return "".join(sign if sign.isalnum() else "-" for sign in joined)

"""How often the policy of verdicts errs, and how often it finds what is there, by simulation.

``python -m cbnorm.report.calibration [TABLES]`` prints what docs/statistics.md shows. Tables are imitated
whole: ten rows on three data sets, 36 comparisons of six clustered rows with BN and MN at two rates, the
decision about pairs, Holm's correction, looks at 5 and 10 seeds, spreads that differ between rows, an effect
of the seed that rows share or don't, and runs that diverge now and then.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from cbnorm.report.policy import ALPHA, decide, directions, looks
from cbnorm.report.statistics import estimate, power

DATA_SETS, ROWS, FIRST_SEEDS = 3, 10, 5
MARGIN = 0.2
#: Rows of a block: BN, MN and three clustered ones at the first rate, then the same at the second.
_PAIRS = [(row + half, base + half) for half in (0, 5) for base in (0, 1) for row in (2, 3, 4)]


@dataclass(frozen=True)
class World:
    """What is true in a simulated table.

    Attributes:
        name: What the table of results calls it.
        gap: True gain of the clustered rows over BN and MN, in points.
        gaining: How many of the clustered rows have it, per data set; the others gain nothing.
        shared: Part of the variance over seeds that all rows share.
        spreads: Standard deviations of rows, drawn evenly between these.
        diverging: Chance that a run diverges and keeps a fifth of its accuracy.
    """

    name: str
    gap: float = 0.0
    gaining: int = 6
    shared: float = 0.0
    spreads: tuple[float, float] = (0.5, 0.5)
    diverging: float = 0.0


WORLDS = (
    World("no gain"),
    World("no gain, uneven spreads", spreads=(0.2, 1.5)),
    World("no gain, seeds shared", shared=0.5),
    World("no gain, runs diverge", diverging=0.01),
    World("gain of the margin", gap=MARGIN),
    World("gain of the margin, seeds shared, uneven", gap=MARGIN, shared=0.5, spreads=(0.2, 1.5)),
    World("one gains 1.5", gap=1.5, gaining=1),
    World("one gains 1.5, seeds shared", gap=1.5, gaining=1, shared=0.5),
    World("all gain 1.5, uneven, runs diverge", gap=1.5, spreads=(0.2, 1.0), diverging=0.01),
)


@dataclass(frozen=True)
class Rates:
    """What the policy did in many tables of one world.

    Attributes:
        false_support: Share of tables with a supported claim whose difference is not positive.
        false_refutation: Share of tables with a refuted claim whose difference has the margin.
        found: Share of the claims with a gain that are supported, after the first look and after all.
        computed: Power of the first look, worked out for the average spread; None where nothing gains.
        pairs: Share of comparisons made seed by seed.
    """

    false_support: float
    false_refutation: float
    found: tuple[float, float]
    computed: float | None
    pairs: float


def simulate(world: World, tables: int, seed: int = 0, max_looks: int = 2) -> Rates:
    """Apply the policy to simulated tables.

    Args:
        world: What is true.
        tables: How many tables.
        seed: Of the random numbers.
        max_looks: How often the table is looked at, each time with twice the seeds.
    """
    generator = np.random.default_rng(seed)
    steps = list(islice(looks(FIRST_SEEDS), max_looks))
    gains = np.zeros(ROWS)
    gains[[2, 3, 4, 7, 8, 9][: world.gaining]] = world.gap
    values = _values(world, gains, tables, steps[-1][1], generator)
    claims = [(block, a, b) for block in range(DATA_SETS) for a, b in _PAIRS]
    truth = np.array([gains[a] - gains[b] for _, a, b in claims])
    supported = np.zeros((tables, len(claims)), dtype=bool)
    refuted = supported.copy()
    first, pairs = 0.0, []
    for look, seeds, level in steps:
        tested = [_test(values[:, block, :, :seeds], a, b) for block, a, b in claims]
        supports, refutes = (np.stack(part, axis=-1) for part in zip(*(t[:2] for t in tested), strict=True))
        now, against = decide(supports, refutes, level)
        # The first look that decides is the verdict.
        supported, refuted = supported | (now & ~refuted), refuted | (against & ~supported)
        pairs.append(np.mean([t[2] for t in tested]))
        if look == 1:
            first = _share(supported, truth > 0)
    needed = sum(part * part for part in world.spreads) + world.spreads[0] * world.spreads[1]
    sd = float(np.sqrt(2 * needed / 3))
    computed = power(world.gap, sd, FIRST_SEEDS, steps[0][2] / len(claims)) if world.gap else None
    return Rates(
        float((supported & (truth <= 0)).any(-1).mean()),
        float((refuted & (truth >= MARGIN)).any(-1).mean()),
        (first, _share(supported, truth > 0)),
        computed,
        float(np.mean(pairs)),
    )


def _share(flags: np.ndarray, where: np.ndarray) -> float:
    return float(flags[:, where].mean()) if where.any() else 0.0


def _values(
    world: World, gains: np.ndarray, tables: int, seeds: int, generator: np.random.Generator
) -> np.ndarray:
    """Accuracies of shape (tables, data sets, rows, seeds)."""
    shape = (tables, DATA_SETS, ROWS, seeds)
    sd = generator.uniform(*world.spreads, size=(*shape[:3], 1))
    own = generator.standard_normal(shape) * np.sqrt(1 - world.shared)
    common = generator.standard_normal((*shape[:2], 1, seeds)) * np.sqrt(world.shared)
    values = 70 + gains[:, None] + sd * (own + common)
    return np.where(generator.random(shape) < world.diverging, values / 5, values)


def _test(values: np.ndarray, a: int, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    others = [row for row in range(ROWS) if row not in (a, b)]
    found, pairs = estimate(values[:, [a, b]], [1.0, -1.0], values[:, others])
    return *directions(found, MARGIN, 0.0, equivalence=False), pairs


def page(tables: int) -> str:
    """The table of all worlds, as Markdown."""
    error = 100 * (ALPHA * (1 - ALPHA) / tables) ** 0.5
    head = [
        "what is true",
        "false support",
        "false refutation",
        "found at 5 seeds",
        "computed",
        "by 10",
        "in pairs",
    ]
    lines = [
        f"{tables:,} tables of each kind; a share of 5 % is known within {error:.2f} %.\n",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for world in WORLDS:
        rates = simulate(world, tables)
        found = [f"{100 * share:.1f} %" if world.gap else "" for share in rates.found]
        computed = "" if rates.computed is None else f"{100 * rates.computed:.1f} %"
        cells = [f"{100 * rates.false_support:.2f} %", f"{100 * rates.false_refutation:.2f} %"]
        cells += [found[0], computed, found[1], f"{100 * rates.pairs:.0f} %"]
        lines.append(f"| {world.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Allowed: {100 * ALPHA:.0f} % of each."]) + "\n"


def main(words: Sequence[str]) -> int:
    """Print the table for so many simulated tables."""
    tables = words[0] if words else "4000"
    if len(words) > 1 or not tables.isdecimal() or int(tables) < 1:
        print(f"'{' '.join(words)}' is no number of tables: write 4000", file=sys.stderr)
        return 2
    print(page(int(tables)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

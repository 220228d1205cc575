"""The whole policy on made-up tables: it rarely errs, and finds what it says it finds."""

import pytest

from cbnorm.report.calibration import WORLDS, World, simulate
from cbnorm.report.policy import ALPHA

TABLES = 4000
#: Three standard errors of a share of ALPHA.
NOISE = 3 * (ALPHA * (1 - ALPHA) / TABLES) ** 0.5


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_false_verdicts_are_rare_in_every_table(world: World) -> None:
    rates = simulate(world, TABLES)
    assert rates.false_support <= ALPHA + NOISE
    assert rates.false_refutation <= ALPHA + NOISE
    # Pairs are made where seeds are shared, and hardly ever where they aren't.
    assert rates.pairs > 0.7 if world.shared else rates.pairs < 0.1


@pytest.mark.parametrize("gap", [1.5, 2.05])
def test_what_is_found_is_what_the_power_says(gap: float) -> None:
    rates = simulate(World("one gains", gap=gap, gaining=1), TABLES)
    assert rates.computed is not None
    assert rates.found[0] == pytest.approx(rates.computed, abs=0.02)
    assert rates.found[1] > rates.found[0]


def test_a_policy_without_correction_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbnorm.report.policy.holm", lambda p: p)
    assert simulate(World("no gain"), 500).false_support > 0.2

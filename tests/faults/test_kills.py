"""A sweep that is killed, wherever, ends with the table of one that was not, byte for byte."""

import random
from collections.abc import Callable

import pytest

MOMENTS = {
    "before the first step": r"^\w+:(layout.json|run.json|claim.json)",
    "inside an epoch": r"^step:",
    "in validation": r"^read:",
    "while the history is written": r"^\w+:history.jsonl",
    "while a checkpoint is written": r"^\w+:checkpoint",
    "between checkpoint and record": r"^\w+:(predictions.npz|clusters.npz|partition.pt|metrics.csv)",
    "while the record is written": r"^(open|write|sync|replace):record.json",
    "after the record": r"^(replaced:record.json|remove:|end:)",
}
KILLS = 20


def spread(count: int, picks: int) -> list[int]:
    """Numbers from 1 to count, evenly spread; all of them when there are no more than that."""
    return sorted({1 + round(k * (count - 1) / max(1, picks - 1)) for k in range(picks)})


@pytest.mark.parametrize("moment", MOMENTS)
def test_two_kills_lose_nothing(moment: str, disturbed, undisturbed, occasions: Callable[[str], int]) -> None:
    """One early and one late occasion, the second while the sweep goes on after the first."""
    at = MOMENTS[moment]
    count = occasions(at)
    assert disturbed.killed(at, 1 + count // 4)
    disturbed.killed(at, 1 + count // 3)
    assert disturbed.sweep() == 0, disturbed.errors
    assert disturbed.outcome() == undisturbed.outcome()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("moment", MOMENTS)
def test_twenty_kills_at_each_moment(
    moment: str, kitchen, tmp_path, undisturbed, occasions: Callable[[str], int], record_property
) -> None:
    """Every occasion, or twenty spread over them; where there are fewer, again after an earlier kill."""
    from collections import Counter

    at, kills, sweeps = MOMENTS[moment], 0, Counter()
    make = type(undisturbed)
    occasion = spread(occasions(at), KILLS)
    draw = random.Random(moment)
    while kills < KILLS:
        for nth in occasion:
            disturbed = make(kitchen, tmp_path / f"{sweeps['all']}")
            disturbed.folder.mkdir()
            kills += disturbed.killed(at, nth)
            if sweeps["all"] >= len(occasion):
                kills += disturbed.killed(r":", draw.randint(1, 200))
            assert disturbed.sweep() == 0, disturbed.errors
            assert disturbed.outcome() == undisturbed.outcome(), f"{moment}, occasion {nth}"
            sweeps["all"] += 1
    record_property("kills", kills)
    print(f"{moment}: {kills} kills in {sweeps['all']} sweeps, all tables the same")
    assert kills >= KILLS


def test_a_sweep_that_ended_is_left_alone(disturbed, undisturbed) -> None:
    assert disturbed.sweep() == 0
    assert disturbed.sweep() == 0
    assert not [event for event in disturbed.events() if event.startswith("step") or "record" in event]
    assert disturbed.outcome() == undisturbed.outcome()

"""Verdicts follow the rules of docs/statistics.md, and nothing pools that shouldn't."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cbnorm.data import tinyimagenet
from cbnorm.report.claim_tables import as_csv, as_markdown, foremost, tally
from cbnorm.report.collect import collect
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import read_claims
from cbnorm.report.statistics import interval, welch
from cbnorm.report.verdicts import Verdict, judge
from cbnorm.runs.store import Store

Judged = Callable[..., dict[str, Verdict]]
LOW, HIGH = [70.0, 70.2, 70.4, 69.9, 70.1], [74.0, 74.3, 73.9, 74.1, 74.2]
SMALL, FULL = ("budget=small",), ("budget=full",)


@pytest.fixture
def judged(making: SimpleNamespace, tmp_path: Path) -> Judged:
    """Verdicts by claim id on records that are written to a store of their own."""

    def judge_them(*groups: Sequence[Any], budget: str = "small", **more: Any) -> dict[str, Verdict]:
        making.write(tmp_path, [entry for group in groups for entry in group], **more)
        evidence = Evidence([Store(tmp_path)])
        told = judge(collect("table5", evidence.records, filters={}), evidence)
        return {verdict.claim.id: verdict for verdict in told if verdict.budget in {"", budget}}

    return judge_them


def test_one_seed_gives_a_difference_and_nothing_else(judged: Judged, making: SimpleNamespace) -> None:
    told = judged(making.table({"SCB-Norm-1": [72.0], "BN-1": [70.0]}))["c10-scb-1-bn"]
    assert (told.verdict, told.remark) == ("no verdict yet", "1 of 5 seeds so far")
    assert told.difference == pytest.approx(2.0)
    assert (told.low, told.high, told.supports, told.detectable) == (None, None, None, None)


@pytest.mark.parametrize(("seeds", "interval"), [(2, False), (3, True), (4, True)])
def test_fewer_seeds_than_fixed_give_no_verdict_however_clear(
    judged: Judged, making: SimpleNamespace, seeds: int, interval: bool
) -> None:
    told = judged(making.table({"SCB-Norm-1": HIGH[:seeds], "BN-1": LOW[:seeds]}))["c10-scb-1-bn"]
    assert told.verdict == "no verdict yet"
    assert told.supports is None
    assert (told.low is not None) == interval


def test_clear_differences_are_supported_and_refuted(judged: Judged, making: SimpleNamespace) -> None:
    told = judged(making.table({"SCB-Norm-1": HIGH, "BN-1": LOW, "UCB-Norm-1": LOW, "MN-1": HIGH}))
    assert told["c10-scb-1-bn"].told == "supported at budget small only"
    assert told["c10-ucb-1-mn"].told == "refuted at budget small only"
    assert told["c10-scb-1-bn"].runs.__len__() == 10
    low, difference, high = (getattr(told["c10-scb-1-bn"], n) for n in ("low", "difference", "high"))
    assert 0 < low < difference < high
    assert difference == pytest.approx(sum(HIGH) / 5 - sum(LOW) / 5)


def test_a_difference_within_the_noise_is_inconclusive_with_what_would_decide(
    judged: Judged, making: SimpleNamespace
) -> None:
    told = judged(making.table({"SCB-Norm-1": [70, 71, 72, 71, 70], "BN-1": [70, 72, 71, 70, 70.5]}))
    verdict = told["c10-scb-1-bn"]
    assert verdict.verdict == "inconclusive"
    assert verdict.needed is not None
    assert verdict.needed > 5
    assert verdict.detectable is not None
    assert verdict.detectable > 1
    assert f"{verdict.needed} seeds would find 1 point" in as_markdown("table5", [verdict])


def test_a_small_gain_that_is_sure_is_supported_and_told_to_be_small(
    judged: Judged, making: SimpleNamespace
) -> None:
    base = [70.0, 70.001, 70.002, 69.999, 70.0]
    told = judged(making.table({"SCB-Norm-1": [v + 0.1 for v in base], "BN-1": base}))["c10-scb-1-bn"]
    assert (told.verdict, told.remark) == ("supported", "smaller than 0.2")


def test_only_the_full_budget_stands_beside_the_papers_numbers(
    judged: Judged, making: SimpleNamespace
) -> None:
    rows = {"SCB-Norm-1": HIGH, "BN-1": LOW}
    told = {
        budget: judged(making.table(rows, f"budget={budget}"), budget=budget)["c10-scb-1-bn"]
        for budget in ("full", "small")
    }
    lines = list(csv.DictReader(io.StringIO(as_csv(told.values()))))
    assert [line["verdict"] for line in lines] == ["supported", "supported at budget small only"]
    assert [line["published"] for line in lines] == ["0.67", ""]
    assert "say nothing of the published numbers" in as_markdown("table5", list(told.values()))


def test_a_claimed_size_is_judged_at_the_full_budget_only(judged: Judged, making: SimpleNamespace) -> None:
    labels = ("SCB-Norm-base", "SCB-Norm", "UCB-Norm")
    rows = {f"{name}-{rate}": [v + 2 for v in LOW] for name in labels for rate in (1, 2)}
    rows |= {"BN-1": LOW, "BN-2": LOW}
    small = judged(making.table(rows))
    assert (small["c10-amount"].verdict, small["c10-mean"].verdict) == ("not testable", "supported")
    full = judged(making.table(rows, "budget=full"), budget="full")
    # 2 points are claimed, and hence 1.5 or more.
    assert full["c10-amount"].verdict == "supported"
    assert full["c10-mean"].difference == pytest.approx(2)


def test_any_and_all_follow_their_parts(judged: Judged, making: SimpleNamespace) -> None:
    rows = {"SCB-Norm-base-1": LOW[::-1], "SCB-Norm-1": HIGH, "UCB-Norm-1": LOW[::-1], "BN-1": LOW}
    told = judged(making.table(rows))
    assert told["c10-best-1"].verdict == "supported"
    assert told["c10-best-1"].difference == pytest.approx(told["c10-scb-1-bn"].difference)
    # Rows of other data sets and rates are missing, so that nothing can be said of all.
    assert told["consistent"].verdict == "not run"


def test_equality_is_a_verdict_of_its_own(judged: Judged, making: SimpleNamespace) -> None:
    near = [v + 0.01 * i for i, v in enumerate(LOW)]
    told = judged(making.table({"SCB-Norm-1": LOW, "SCB-Norm-random-ids-1": near}))
    assert told["c10-random-1"].verdict == "equivalent"
    told = judged(making.table({"SCB-Norm-2": HIGH, "SCB-Norm-random-ids-2": LOW}))
    assert told["c10-random-2"].verdict == "different"
    assert told["c10-ids-2"].verdict == "supported"


def test_seeds_count_only_where_all_rows_have_them(judged: Judged, making: SimpleNamespace) -> None:
    told = judged(making.table({"SCB-Norm-1": [None, *HIGH], "BN-1": [*LOW, None]}))["c10-scb-1-bn"]
    assert (told.verdict, told.seeds) == ("no verdict yet", 4)


def test_seeds_beyond_a_look_change_nothing_before_the_next(judged: Judged, making: SimpleNamespace) -> None:
    first = judged(making.table({"SCB-Norm-1": HIGH, "BN-1": LOW}))["c10-scb-1-bn"]
    more = judged(making.table({"SCB-Norm-1": [*HIGH, 10, 20, 30], "BN-1": [*LOW, 90, 80, 70]}))[
        "c10-scb-1-bn"
    ]
    assert more.seeds == 8
    assert (more.used, more.verdict, more.supports, more.runs) == (
        5,
        first.verdict,
        first.supports,
        first.runs,
    )


def test_a_second_look_with_twice_the_seeds_can_decide(judged: Judged, making: SimpleNamespace) -> None:
    base = [70, 71, 72, 71, 70, 71.5, 70.5, 72, 70.2, 71.1]
    rows = {"SCB-Norm-1": [v + 2 for v in base[::-1]], "BN-1": base}
    assert judged(making.table({k: v[:5] for k, v in rows.items()}))["c10-scb-1-bn"].verdict == "inconclusive"
    told = judged(making.table(rows))["c10-scb-1-bn"]
    assert (told.verdict, told.used, told.remark) == ("supported", 10, "look 2")


@pytest.mark.parametrize(
    "other",
    [
        ("trainer.precision=fp32",),
        ("trainer.batch_size=128",),
        ("protocol=paper",),
        ("budget=full",),
        ("dataset.train_images=9000",),
    ],
)
def test_runs_of_another_kind_never_join(
    judged: Judged, making: SimpleNamespace, other: tuple[str, ...]
) -> None:
    kept = making.table({"SCB-Norm-1": HIGH[:3], "BN-1": LOW[:3]})
    away = [
        e
        for e in making.table({"SCB-Norm-1": HIGH, "BN-1": LOW}, *other)
        if e["identity"]["config"]["seed"] > 2
    ]
    told = judged(kept, away)["c10-scb-1-bn"]
    assert (told.verdict, told.seeds) == ("no verdict yet", 3)


def test_numbers_of_another_version_or_of_other_data_never_join(
    judged: Judged, making: SimpleNamespace
) -> None:
    from cbnorm.runs.identity import digest

    records = making.table({"SCB-Norm-1": HIGH, "BN-1": LOW})
    for entry in records:
        seed = entry["identity"]["config"]["seed"]
        if seed > 2:
            entry["identity"] |= {"numerics_version": 0} if seed == 3 else {"data": "other"}
            entry["id"] = digest(entry["identity"])
    told = judged(records)["c10-scb-1-bn"]
    assert (told.verdict, told.seeds) == ("no verdict yet", 3)


def test_a_part_of_a_data_set_is_wrong_data(judged: Judged, making: SimpleNamespace, tmp_path: Path) -> None:
    ids = [f"n{number}" for number in range(tinyimagenet.CLASSES)]
    part = tinyimagenet.name_of(tmp_path, Counter(dict.fromkeys(range(len(ids)), 150)), ids)
    records = making.table({"SCB-Norm-1": HIGH, "BN-1": LOW}, "dataset=tinyimagenet")
    for entry in records:
        entry["data"]["name"] = part
    told = judged(records)["tiny-scb-1-bn"]
    assert (told.verdict, told.remark) == ("not testable", f"wrong data: {part} is not all of it")


def test_a_diverged_run_counts_with_what_it_had(judged: Judged, making: SimpleNamespace) -> None:
    records = making.table({"SCB-Norm-1": HIGH, "BN-1": LOW})
    broken = records[0]
    broken["status"] = "diverged"
    broken["metrics"]["moments"] = broken["metrics"]["moments"][:1]
    broken["metrics"]["moments"][0]["best"]["accuracy"] = 10.0
    told = judged(records)["c10-scb-1-bn"]
    assert told.seeds == 5
    assert told.verdict == "inconclusive"
    assert told.difference == pytest.approx((10 + sum(HIGH[1:])) / 5 - sum(LOW) / 5)


def test_speed_is_when_the_accuracy_of_bn_is_reached(judged: Judged, making: SimpleNamespace) -> None:
    records = making.table({"SCB-Norm-1": HIGH, "BN-1": LOW})
    slow = [30.0] * 17 + [69.1, 69.2, 75.0]
    history = {
        entry["id"]: [40.0, 75.0] + [75.0] * 18 if entry["config"]["norm"]["name"] == "scb" else slow
        for entry in records
    }
    late = [entry["id"] for entry in records if entry["config"]["norm"]["name"] == "bn"]
    history[late[0]] = [30.0] * 20  # never: counts with the whole budget
    history[late[1]] = [30.0] * 18 + [75.0, 75.0]
    told = judged(records, history=history)["c10-scb-1-bn-speed"]
    # BN's best validation accuracies are 69.12 on average: SCB-Norm is there at epoch 2, BN at 20, 19, ...
    assert told.difference == pytest.approx(100 * (96 / 5 - 2) / 20)
    assert told.verdict == "supported"
    assert told.method == "t, Welch"


@pytest.mark.parametrize(
    ("epochs", "verdict", "arrived"),
    [((18, 19, 18, 19, 19), "refuted", 5), ((19, 21, 21, 21, 21), "inconclusive", 1)],
)
def test_a_goal_that_is_seldom_reached_refutes_nothing(
    epochs: tuple[int, ...], verdict: str, arrived: int, judged: Judged, making: SimpleNamespace
) -> None:
    records = making.table({"SCB-Norm-1": HIGH, "BN-1": LOW})
    when = {"scb": iter(epochs), "bn": iter((2, 3, 2, 2, 3))}
    history = {}
    for entry in records:
        before = next(when[entry["config"]["norm"]["name"]]) - 1
        history[entry["id"]] = ([30.0] * before + [75.0] * 20)[:20]
    told = judged(records, history=history)["c10-scb-1-bn-speed"]
    assert told.verdict == verdict
    assert f"got there: SCB-Norm-1 {arrived} of 5, BN-1 5 of 5" in told.remark


def test_a_difference_as_large_as_in_print_refutes_no_claim(judged: Judged, making: SimpleNamespace) -> None:
    claim = next(claim for claim in read_claims("table5") if claim.id == "c10-mn-2")
    assert 0 < claim.gap < claim.margin  # type: ignore[operator]
    assert claim.least == claim.gap
    above = [value + 0.16 for value in LOW]
    told = judged(making.table({"MN-2": above, "BN-2": LOW}))["c10-mn-2"]
    assert told.verdict != "refuted"


def test_a_run_without_its_epochs_has_no_speed(judged: Judged, making: SimpleNamespace) -> None:
    records = making.table({"SCB-Norm-1": HIGH, "BN-1": LOW})
    told = judged(records, history={records[0]["id"]: []})
    assert (told["c10-scb-1-bn-speed"].verdict, told["c10-scb-1-bn-speed"].seeds) == ("no verdict yet", 4)
    assert told["c10-scb-1-bn"].seeds == 5


def test_from_twenty_seeds_on_predictions_are_resampled(judged: Judged, making: SimpleNamespace) -> None:
    rows = {"SCB-Norm-1": [71.0, 69.0] * 10, "BN-1": [70.0, 69.5] * 10}
    kept = judged(making.table(rows), images=400)["c10-scb-1-bn"]
    assert kept.method == "bootstrap over seeds and images, Welch"
    assert kept.low is not None
    # With 400 images, their choice matters more than the seeds.
    assert kept.low < float(interval(welch(list(rows.values()), [1, -1]))[0]) - 0.5


def test_without_predictions_t_stays_and_says_so(judged: Judged, making: SimpleNamespace) -> None:
    told = judged(making.table({"SCB-Norm-1": [71.0, 69.0] * 10, "BN-1": [70.0, 69.5] * 10}))["c10-scb-1-bn"]
    assert told.method == "t, Welch, predictions missing"


def test_claims_without_runs_say_why(judged: Judged, making: SimpleNamespace) -> None:
    told = judged(making.table({"SCB-Norm-1": HIGH, "BN-1": LOW}))
    assert (told["c100-scb-1-bn"].verdict, told["c100-scb-1-bn"].remark) == ("not run", "")
    assert told["fig1-clusters"].verdict == "not testable"
    assert "no rule was fixed before" in told["fig1-clusters"].remark
    assert told["c10-ucb-1-bn"].remark == "no run of UCB-Norm-1"
    assert told["c10-ucb-1-bn"].verdict == "not run"


def test_a_claim_that_is_judged_at_two_budgets_counts_once(making: SimpleNamespace, tmp_path: Path) -> None:
    values = {"SCB-Norm-1": HIGH, "BN-1": LOW}
    making.write(tmp_path, [*making.table(values), *making.table({"BN-1": [86.0]}, "budget=full")])
    evidence = Evidence([Store(tmp_path)])
    told = judge(collect("table5", evidence.records, filters={}), evidence)
    assert len({(one.claim.id, one.budget) for one in told}) == len(told) > len(read_claims("table5"))
    assert tally(told).startswith(f"{len(read_claims('table5'))} claims: 2 supported, ")
    (chosen,) = (one for one in foremost(told) if one.claim.id == "c10-scb-1-bn")
    assert (chosen.budget, chosen.verdict) == ("small", "supported")

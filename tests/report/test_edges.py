"""Verdicts where runs diverge, vary in nothing, lie in several stores, or take part in several rows."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cbnorm.report.claim_tables import remark_of
from cbnorm.report.collect import collect
from cbnorm.report.endpoints import best_validation, value_at
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import read_claims
from cbnorm.report.policy import looks
from cbnorm.report.pool import Records
from cbnorm.report.samples import sample
from cbnorm.report.statistics import correlation, p_above, paired, power, welch
from cbnorm.report.verdicts import Verdict, judge
from cbnorm.runs.plan import row_configs
from cbnorm.runs.store import Store

Judged = Callable[..., dict[str, Verdict]]
LOW, HIGH = [70.0, 70.2, 70.4, 69.9, 70.1], [74.0, 74.3, 73.9, 74.1, 74.2]
NOISY = [70.0, 72.0, 71.0, 70.0, 70.5]


@pytest.fixture
def judged(making: SimpleNamespace, tmp_path: Path) -> Judged:
    """Verdicts on Table V by claim id."""

    def judge_them(*groups: Sequence[Any], **more: Any) -> dict[str, Verdict]:
        making.write(tmp_path, [entry for group in groups for entry in group], **more)
        evidence = Evidence([Store(tmp_path)])
        found = judge(collect("table5", evidence.records, filters={}), evidence)
        return {told.claim.id: told for told in found if told.budget}

    return judge_them


def diverged(record: dict[str, Any], classes: int | None = 10) -> dict[str, Any]:
    """The record of the same run, had it diverged before anything was read."""
    changed = copy.deepcopy(record) | {"status": "diverged", "metrics": {"moments": []}}
    changed["data"]["classes"] = classes
    return changed


def test_a_run_that_diverged_before_anything_was_read_counts_as_guessing(
    judged: Judged, making: SimpleNamespace
) -> None:
    own = making.table({"UCB-Norm-1": [*HIGH, 74.0, 74.1]})
    own[1] = diverged(own[1])
    assert value_at(own[1], 100, "best") == value_at(own[1], 25, "last") == 10
    assert value_at(own[1], 100, "best", "test_error") == pytest.approx(0.9)
    assert best_validation(own[1]) == 10
    told = judged(own, making.table({"BN-1": [*LOW, 70.0, 70.1]}))["c10-ucb-1-bn"]
    assert (told.verdict, told.used) == ("inconclusive", 5)
    assert told.difference is not None
    assert told.difference < 0


def test_other_seeds_never_take_the_place_of_one_without_a_value(
    judged: Judged, making: SimpleNamespace
) -> None:
    own = making.table({"UCB-Norm-1": [*HIGH, 74.0, 74.1]})
    own[1] = diverged(own[1], classes=None)
    told = judged(own, making.table({"BN-1": [*LOW, 70.0, 70.1]}))["c10-ucb-1-bn"]
    assert (told.verdict, told.remark) == ("not testable", "runs of UCB-Norm-1 diverged without a value")


def test_a_seed_without_a_value_doesn_t_undo_the_look_before_it(
    judged: Judged, making: SimpleNamespace
) -> None:
    own = making.table({"UCB-Norm-1": [*HIGH, 74.0, *HIGH]})
    own[5] = diverged(own[5], classes=None)
    told = judged(own, making.table({"BN-1": [*LOW, 70.0, *LOW]}))["c10-ucb-1-bn"]
    # Eleven seeds are there; those after the silent one would make it a choice of seeds by outcome.
    assert (told.verdict, told.used, told.seeds) == ("supported", 5, 5)


def test_numbers_of_seeds_are_those_of_planned_looks(judged: Judged, making: SimpleNamespace) -> None:
    told = judged(making.table({"SCB-Norm-1": NOISY[::-1], "BN-1": NOISY}))["c10-scb-1-bn"]
    sd = float(np.std(NOISY, ddof=1)) * 2**0.5
    enough = [seeds for _, seeds, level in looks(5) if power(1.0, sd, seeds, level / 36) >= 0.8]
    assert (told.verdict, told.needed) == ("inconclusive", enough[0])
    assert f"{enough[0]} seeds would find 1 point" in remark_of(told)


def test_equality_asks_for_seeds_that_show_equality(judged: Judged, making: SimpleNamespace) -> None:
    told = judged(making.table({"SCB-Norm-random-ids-1": NOISY[::-1], "SCB-Norm-1": NOISY}))["c10-random-1"]
    assert (told.verdict, told.detectable) == ("inconclusive", None)
    assert "seeds would show that equal rows are equal" in remark_of(told)
    size = sum(claim.family == "table5-controls" and not claim.testable for claim in read_claims("table5"))
    sd = float(np.std(NOISY, ddof=1)) * 2**0.5
    chances = {seeds: 2 * power(1.0, sd, seeds, level / size) - 1 for _, seeds, level in looks(5)}
    assert told.needed == next(seeds for seeds, chance in chances.items() if chance >= 0.8) > 5


def test_sizes_ask_for_seeds_that_show_the_size(judged: Judged, making: SimpleNamespace) -> None:
    rows = ("SCB-Norm-base-1", "SCB-Norm-1", "UCB-Norm-1", "SCB-Norm-base-2", "SCB-Norm-2", "UCB-Norm-2")
    values = {label: [value + 2 for value in NOISY[::-1]] for label in rows} | {"BN-1": NOISY, "BN-2": NOISY}
    told = judged(making.table(values, "budget=full"))["c10-amount"]
    assert told.verdict == "inconclusive"
    assert told.detectable is not None
    assert told.detectable > told.claim.at_least
    assert told.needed > 5


def test_values_that_do_not_vary_test_nothing(judged: Judged, making: SimpleNamespace) -> None:
    records = making.table({"UCB-Norm-1": LOW, "MN-1": LOW, "BN-1": HIGH})
    history = {
        entry["id"]: [10.0] * 20 for entry in records if entry["metrics"]["moments"][-1]["val_accuracy"] < 72
    }
    told = judged(records, history=history)["c10-ucb-1-mn-speed"]
    arrived = "got there: UCB-Norm-1 0 of 5, MN-1 0 of 5"
    assert (told.verdict, told.remark) == ("inconclusive", f"{arrived}; no value varies: nothing to test")
    assert (told.low, told.detectable) == (None, None)


@pytest.mark.parametrize("count", [5, 10])
def test_rounding_is_no_variance(count: int) -> None:
    for base in np.arange(69.0, 71.0, 0.02):
        values = np.array([[base] * count, [base - 0.5] * count])
        for found in (welch(values, [1, -1]), paired(values, [1, -1])):
            assert found.error == 0
            assert p_above(found, 0.0) == 1
    draws = np.random.default_rng(0).normal(70, 1, count)
    assert paired(np.array([draws, draws - 0.7]), [1, -1]).error == 0


def test_rows_that_do_not_vary_tell_nothing_of_correlation() -> None:
    draw = np.random.default_rng(1)
    varying = draw.normal(size=(5, 8)) + draw.normal(size=8)
    constant = np.full((3, 8), 10.0)
    assert correlation(np.vstack([varying, constant])) == pytest.approx(float(correlation(varying)))
    assert correlation(np.vstack([varying[:1], constant])) == 0


def test_one_part_refutes_that_all_hold_though_others_were_never_run(
    judged: Judged, making: SimpleNamespace
) -> None:
    rows = {"SCB-Norm-base-1": LOW, "UCB-Norm-1": [value + 1 for value in HIGH], "BN-1": HIGH}
    told = judged(making.table(rows))
    worst, other = told["c10-base-1-bn"], told["c10-ucb-1-bn"]
    assert (worst.verdict, other.verdict) == ("refuted", "supported")
    assert (told["consistent"].verdict, told["consistent"].used) == ("refuted", 5)
    assert told["consistent"].difference == pytest.approx(worst.difference)
    assert set(told["consistent"].runs) == {*worst.runs, *other.runs}


def test_parts_that_hold_leave_a_claim_about_all_open(judged: Judged, making: SimpleNamespace) -> None:
    told = judged(making.table({"SCB-Norm-base-1": HIGH, "BN-1": LOW}))
    assert told["c10-base-1-bn"].verdict == "supported"
    assert told["consistent"].verdict == "not run"


def test_speed_names_the_runs_that_set_the_goal_and_its_rounding_hides_none(
    judged: Judged, making: SimpleNamespace
) -> None:
    best = 60.22  # the mean of five of these is rounded up above them
    assert np.mean([best] * 5) > best
    records = making.table({"UCB-Norm-1": [70.0] * 5, "MN-1": [70.0] * 5, "BN-1": [70.0] * 5})
    reached = {"bn": best, "ucb": best, "mn": best - 1}
    for entry in records:
        for moment in entry["metrics"]["moments"]:
            moment["val_accuracy"] = reached[entry["config"]["norm"]["name"]]
    told = judged(records)["c10-ucb-1-mn-speed"]
    goal = {entry["id"] for entry in records if entry["config"]["norm"]["name"] == "bn"}
    assert goal < set(told.runs)
    # UCB-Norm is there after the first of twenty epochs, MN never.
    assert told.difference == 95


def test_rows_that_read_the_compared_runs_have_no_say_about_pairs(
    making: SimpleNamespace, tmp_path: Path
) -> None:
    configs = row_configs("table7", ["budget=small"], ["ViT+BN", "ViT+SCB-Norm"])
    records = [
        making.record(config=config.model_copy(update={"seed": seed}))
        for config in configs.values()
        for seed in range(5)
    ]
    for entry in records:
        for moment in entry["metrics"]["moments"]:
            for kind in ("unknown", "masked", "permuted"):
                moment["best"][f"{kind}.accuracy"] = moment["best"]["accuracy"] - 1
    making.write(tmp_path, records)
    evidence = Evidence([Store(tmp_path)])
    (block,) = collect("table7", evidence.records, filters={}).blocks
    assert sum(bool(row.main[-1].values) for row in block.rows) > 2
    (claim,) = (claim for claim in read_claims("table7") if claim.id == "vit-scb")
    taken = sample(claim, block, evidence)
    assert not isinstance(taken, str)
    compared = {run for cell in taken.cells for run in cell.runs}
    assert len(compared) == 10
    assert taken.others == ()


def test_of_two_stores_the_failed_and_the_poorer_record_give_way(making: SimpleNamespace) -> None:
    (good,) = making.table({"BN-1": [70.0]})
    poorer = copy.deepcopy(good)
    for entry in good["metrics"]["moments"]:
        entry["best"]["top5"] = 90.0
    failed = {key: value for key, value in good.items() if key != "metrics"} | {"status": "failed"}
    other = copy.deepcopy(good)
    other["metrics"]["moments"][0]["best"]["accuracy"] = 1.0
    for group in ([poorer, good], [good, poorer], [failed, good], [good, failed]):
        found = Records(group)
        assert found.all == [good]
        assert found.conflicts == {}
    assert list(Records([other, good]).conflicts) == [good["id"]]


def test_epochs_and_predictions_are_those_of_the_run_that_ended(
    making: SimpleNamespace, tmp_path: Path
) -> None:
    (entry,) = making.table({"BN-1": [70.0]})
    made = making.write(tmp_path / "whole", [entry], history={entry["id"]: [50.0, 60.0, 70.0]}, images=20)
    part = tmp_path / "part" / entry["id"]
    part.mkdir(parents=True)
    (part / "history.jsonl").write_text('{"epoch": 1, "val_accuracy": 10.0}\n')
    evidence = Evidence([Store(tmp_path / "part"), Store(made)])
    assert len(evidence.history(entry["id"])) == 3
    epoch = entry["metrics"]["moments"][-1]["epoch"]
    assert evidence.correct(entry["id"], epoch, "best") is not None


def test_predictions_of_a_diverged_run_are_its_last_ones(making: SimpleNamespace, tmp_path: Path) -> None:
    (entry,) = making.table({"BN-1": [70.0]})
    last = entry["metrics"]["moments"][-1]["epoch"]
    entry["status"], entry["metrics"]["moments"] = "diverged", entry["metrics"]["moments"][:2]
    making.write(tmp_path, [entry], images=20)
    assert Evidence([Store(tmp_path)]).correct(entry["id"], last, "best") is not None


def test_pairs_find_smaller_differences_where_rows_share_their_noise() -> None:
    assert power(0.5, 0.2, 5, 0.01, 1.0) > power(0.5, 0.7, 5, 0.01)
    assert power(0.5, 0.7, 5, 0.01, 1.0) < power(0.5, 0.7, 5, 0.01)

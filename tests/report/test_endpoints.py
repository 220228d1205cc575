"""What is compared is read from records and histories by fixed rules."""

import pytest

from cbnorm.report.endpoints import early_stopping, epochs_to_reach, value_at

HISTORY = [
    {"epoch": epoch, "val_accuracy": value}
    for epoch, value in enumerate([50.0, 60.0, 59.0, 58.0, 70.0, 69.0], 1)
]
RECORD = {
    "status": "done",
    "metrics": {
        "moments": [
            {
                "percent": 50,
                "epoch": 3,
                "best_epoch": 2,
                "best": {"accuracy": 61.0},
                "last": {"accuracy": 57.0},
            },
            {
                "percent": 100,
                "epoch": 6,
                "best_epoch": 5,
                "best": {"accuracy": 71.0},
                "last": {"accuracy": 68.0},
            },
        ]
    },
}


@pytest.mark.parametrize(
    ("goal", "epochs", "censored"), [(50, 1, False), (60, 2, False), (65, 5, False), (71, 6, True)]
)
def test_convergence_is_the_first_epoch_at_the_goal_or_the_whole_budget(
    goal: float, epochs: int, censored: bool
) -> None:
    assert epochs_to_reach(HISTORY, goal, 6) == (epochs, censored)


def test_a_run_that_ended_early_counts_with_the_whole_budget() -> None:
    assert epochs_to_reach(HISTORY[:3], 65, 6) == (6, True)
    assert epochs_to_reach([], 65, 6) == (6, True)


def test_early_stopping_is_a_reading_of_a_run_that_went_on() -> None:
    stopped = early_stopping(RECORD, HISTORY, patience=2)
    assert stopped == (4, 2, 60.0, 61.0)
    patient = early_stopping(RECORD, HISTORY, patience=3)
    assert patient == (6, 5, 70.0, 71.0)


def test_the_test_accuracy_of_weights_that_were_never_tested_is_unknown() -> None:
    lost = {"status": "done", "metrics": {"moments": RECORD["metrics"]["moments"][1:]}}
    assert early_stopping(lost, HISTORY, patience=2).test_accuracy is None


@pytest.mark.parametrize(("history", "patience"), [([], 3), (HISTORY, 0)])
def test_nothing_stops_without_epochs_or_patience(history: list, patience: int) -> None:
    with pytest.raises(ValueError, match="both must be positive"):
        early_stopping(RECORD, history, patience)


def test_only_a_diverged_run_counts_with_an_earlier_moment() -> None:
    cut = {"metrics": {"moments": RECORD["metrics"]["moments"][:1]}}
    assert value_at(cut | {"status": "diverged"}, 100, "best") == 61.0
    assert value_at(cut | {"status": "done"}, 100, "best") is None


def test_a_test_error_is_what_an_accuracy_lacks_as_a_share() -> None:
    assert value_at(RECORD, 100, "last", "test_error") == pytest.approx(0.32)
    told = {"status": "done", "metrics": {"moments": [{"percent": 100, "last": {"own.accuracy": 75.0}}]}}
    assert value_at(told, 100, "last", "own.test_error") == pytest.approx(0.25)
    assert value_at(told, 100, "last", "test_error") is None

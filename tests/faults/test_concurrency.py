"""Several sweeps on one store: every run is trained once, whoever dies."""

import pytest

PLAN = ("norm=ucb", "norm=scb", "norm=bn", "norm=mn", "norm=bn seed=1", "norm=ucb seed=1")


def trained(disturbed, first: int) -> int:
    """How many records the jobs from the first log on wrote."""
    logs = [path for path in sorted(disturbed.folder.glob("*.log")) if int(path.stem) >= first]
    return sum(path.read_text().count("replaced:record.json\n") for path in logs)


@pytest.fixture(scope="module")
def calm(kitchen, undisturbed, tmp_path_factory):
    alone = type(undisturbed)(kitchen, tmp_path_factory.mktemp("calm"), PLAN)
    assert alone.sweep() == 0, alone.errors
    return alone


@pytest.mark.parametrize("sweeps", [2, 4])
def test_concurrent_sweeps_train_every_run_once(sweeps: int, disturbed, calm) -> None:
    disturbed.rows = PLAN
    jobs = [disturbed.job(first=k) for k in range(sweeps)]
    assert disturbed.kitchen.cook(*jobs) == [0] * sweeps, disturbed.errors
    assert trained(disturbed, 1) == len(PLAN)
    assert disturbed.outcome() == calm.outcome()


def test_sweeps_that_begin_at_the_same_run_do_it_once(disturbed, undisturbed) -> None:
    jobs = [disturbed.job() for _ in range(4)]
    assert disturbed.kitchen.cook(*jobs) == [0] * 4, disturbed.errors
    assert trained(disturbed, 1) == 2
    assert disturbed.outcome() == undisturbed.outcome()


def test_what_a_killed_sweep_had_is_taken_over_at_once(disturbed, calm) -> None:
    disturbed.rows = PLAN
    kill = {"at": "^step:", "nth": 4, "action": "kill"}
    jobs = [disturbed.job(first=0, fault=kill), disturbed.job(first=2, fault=kill), disturbed.job(first=4)]
    assert disturbed.kitchen.cook(*jobs) == [-9, -9, 0], disturbed.errors
    assert disturbed.outcome() == calm.outcome()

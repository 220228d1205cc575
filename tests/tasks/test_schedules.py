"""Learning rates over a run."""

import math

import pytest
import torch
from torch import nn

from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError
from cbnorm.tasks.classification import Classification
from cbnorm.tasks.schedules import rate_factor, set_rate


def config(*words: str):  # type: ignore[no-untyped-def]
    return compose_run(words).optimizer


def test_a_constant_rate_stays() -> None:
    assert {rate_factor(config(), step, 10) for step in range(10)} == {1.0}


def test_steps_are_those_of_densenet() -> None:
    sgd = config("optimizer=sgd")
    rates = [sgd.lr * rate_factor(sgd, epoch, 200) for epoch in range(200)]
    assert rates == pytest.approx([0.1] * 100 + [0.01] * 50 + [0.001] * 50)


def test_pieces_are_the_released_notebooks_schedule_with_its_slip() -> None:
    sgd = compose_run(["experiment=densenet", "protocol=released"]).optimizer
    rates = [sgd.lr * rate_factor(sgd, epoch, 200) for epoch in range(200)]
    assert rates == pytest.approx([0.1] * 101 + [0.01] * 49 + [0.1] + [0.001] * 49)


def test_pieces_need_a_multiple_for_every_milestone() -> None:
    with pytest.raises(CbnormError, match=r"optimizer.multiples=\[0.1, 0.01\] must be one for each"):
        compose_run(["optimizer.schedule=pieces", "optimizer.milestones=[0.5]"])


def test_the_cosine_agrees_with_torch() -> None:
    cosine = config("optimizer.schedule=cosine", "optimizer.factor=0.25", "optimizer.lr=0.03")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.03)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.25 * 0.03)
    for step in range(50):
        assert cosine.lr * rate_factor(cosine, step, 50) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rate_factor(cosine, 25, 50) == pytest.approx(0.625)
    assert rate_factor(cosine, 49, 50) > 0.25
    assert math.isclose(rate_factor(cosine, 0, 50), 1)


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_run_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match="not one of 10"):
        rate_factor(config(), step, 10)


def test_a_task_gives_its_optimizers_the_rate_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Classification(nn.Linear(2, 2), config("optimizer=sgd"), steps=8)
    optimizer = task.configure_optimizers()
    monkeypatch.setattr(task, "all_optimizers", lambda: [optimizer])
    rates = []
    for step in range(8):
        task.begin_step(step)
        rates += [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    set_rate(optimizer, 1.0)
    assert optimizer.param_groups[0]["lr"] == 1.0

"""The numbers of the code: when these change, NUMERICS_VERSION must be raised (and the file made anew).

Make it anew with ``python tests/runs/test_golden.py``, which writes golden.json for the current version.
"""

import json
from pathlib import Path

import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.runs.build import build
from cbnorm.runs.identity import NUMERICS_VERSION
from cbnorm.tasks.classification import ClassificationReader

GOLDEN = Path(__file__).with_name("golden.json")
COMMON = [
    "budget=smoke",
    "dataset.train_images=150",
    "dataset.val_images=50",
    "trainer.batch_size=30",
    "trainer.precision=fp32",
]
TOLERANCES = (1e-5, 1e-4, 1e-3, 5e-3, 1e-2, 3e-2)
ROWS = {
    "none": ["norm=none"],
    "bn": ["norm=bn"],
    "mn": ["norm=mn"],
    "scb": ["norm=scb"],
    "scb, random ids": ["norm=scb", "partition=random"],
    "scb, k-means": ["norm=scb", "partition=kmeans"],
    "scb_base": ["norm=scb_base"],
    "ucb": ["norm=ucb"],
    "ucb, paper": ["norm=ucb", "protocol=paper"],
    "ucb, joint, moving average": ["norm=ucb", "norm.posterior=joint", "norm.update=moving_average"],
}


def losses(words: list[str]) -> list[float]:
    """Losses of five steps, and the first validation loss after them, in float32 on one thread."""
    config = compose_run([*COMMON, *words])
    torch.set_num_threads(1)
    parts = build(config, torch.device("cpu"))
    assert isinstance(parts.reader, ClassificationReader)
    optimizer = parts.task.configure_optimizers()
    found = []
    for index, batch in enumerate(parts.train.epoch(0)):
        optimizer.zero_grad()
        loss = parts.task.training_step(batch, index)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    parts.task.eval()
    with torch.no_grad():
        found.append(parts.task.training_step(next(iter(parts.reader.val)), 0).item())
    return found


@pytest.mark.parametrize("row", ROWS)
def test_the_numbers_are_those_of_their_version(row: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["numerics_version"] == NUMERICS_VERSION, "make golden.json anew for the new version"
    for step, (found, expected) in enumerate(zip(losses(ROWS[row]), golden["losses"][row], strict=True)):
        # Rounding differs between machines and grows with every step.
        assert found == pytest.approx(expected, rel=TOLERANCES[step]), (
            f"step {step}: mend the code, or raise NUMERICS_VERSION and make golden.json anew"
        )


if __name__ == "__main__":
    found = {row: [float(f"{x:.7g}") for x in losses(words)] for row, words in ROWS.items()}
    GOLDEN.write_text(json.dumps({"numerics_version": NUMERICS_VERSION, "losses": found}, indent=1) + "\n")

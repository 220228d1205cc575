"""Batches as runs are given them."""

import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.runs.build import build

TINY = ["budget=smoke", "dataset.val_images=12", "dataset.test_images=11", "trainer.batch_size=10"]


@pytest.mark.parametrize(("images", "sizes"), [(21, [10, 10]), (22, [10, 10, 2]), (20, [10, 10])])
def test_one_image_is_no_batch_to_train_on(images: int, sizes: list[int]) -> None:
    parts = build(compose_run([*TINY, f"dataset.train_images={images}"]), torch.device("cpu"))
    assert [len(labels) for _, labels, _ in parts.train.epoch(0, 0)] == sizes
    assert len(parts.train) == len(sizes)
    assert [len(labels) for _, labels, _ in parts.reader.test] == [10, 1]

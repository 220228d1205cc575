"""Batches as runs are given them."""

from typing import Any

import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.runs.build import build, load_data

TINY = ["budget=smoke", "dataset.val_images=12", "dataset.test_images=11", "trainer.batch_size=10"]


@pytest.mark.parametrize(("images", "sizes"), [(21, [10, 10]), (22, [10, 10, 2]), (20, [10, 10])])
def test_one_image_is_no_batch_to_train_on(images: int, sizes: list[int]) -> None:
    parts = build(compose_run([*TINY, f"dataset.train_images={images}"]), torch.device("cpu"))
    assert [len(labels) for _, labels, _ in parts.train.epoch(0, 0)] == sizes
    assert len(parts.train) == len(sizes)
    assert [len(labels) for _, labels, _ in parts.reader.test] == [10, 1]


def test_every_option_of_the_images_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("cbnorm.runs.build.load", lambda key, **options: given.update(options, key=key))
    options = {"image_size": 48, "train_images": 9, "val_images": 7, "test_images": 5, "folder": "/x"}
    options |= {"split": "last", "split_seed": 3, "statistics": "imagenet", "folds": 4}
    config = compose_run(["budget=smoke"])
    dataset = config.dataset.model_copy(update=options | {"fold": 2})
    load_data(config.model_copy(update={"dataset": dataset}))
    assert given == options | {"key": "digits", "fold": 2}


def test_the_seed_of_a_run_decides_weights_order_variation_and_clusters_but_no_images() -> None:
    words = [*TINY, "dataset.train_images=30", "dataset.augmentation.rotation=10", "norm=scb"]

    def made(seed: int) -> dict[str, torch.Tensor]:
        parts = build(compose_run([*words, "partition=random", f"seed={seed}"]), torch.device("cpu"))
        order, varied = parts.train.drawn(0)
        first = next(iter(parts.task.model.parameters())).detach()
        clusters = parts.clusters["train"]
        images = parts.data.train.indices
        return {"first": first, "order": order, "angle": varied.angle, "clusters": clusters, "images": images}

    ours, again, other = made(0), made(0), made(1)
    assert all(torch.equal(ours[key], again[key]) for key in ours)
    assert [key for key in ours if torch.equal(ours[key], other[key])] == ["images"]

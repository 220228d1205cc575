"""Test images decide no id but under refit, which is marked."""

import io

import pytest
import torch
from torch import Tensor

from cbnorm.data.splits import Split
from cbnorm.partitions import Assignment, Partition, assign, fit_partition

FITTED = ("kmeans", "gmm", "random")


def splits_of(images: Tensor, test: Tensor) -> dict[str, Split]:
    parts = {"train": images[:200], "val": images[200:250], "test": test}
    return {key: Split(part, torch.zeros(len(part), dtype=torch.int64)) for key, part in parts.items()}


def assigned(name: str, images: Tensor, test: Tensor, how: str = "predict") -> Assignment:
    options = {
        "name": name,
        "clusters": 3,
        "features": "raw" if name == "kmeans" else "pca64",
        "test": how,
        "seed": None,
    }
    return assign(
        options, splits_of(images, test), seed=0, num_classes=1, official={"train": 250, "test": len(test)}
    )


@pytest.fixture(scope="module")
def images(grouped) -> Tensor:
    return grouped[0]


def plain(state: object) -> str:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue().hex()


@pytest.mark.parametrize("method", FITTED)
def test_poisoned_test_images_leave_the_fit_and_other_ids_unchanged(method: str, images: Tensor) -> None:
    clean = assigned(method, images, images[250:])
    poisoned = assigned(method, images, 255 - images[250:])
    assert plain(poisoned.state()) == plain(clean.state())
    assert poisoned.summary() == clean.summary()
    for key in ("train", "val"):
        assert torch.equal(poisoned.ids[key], clean.ids[key])
    assert not clean.transductive
    assert "transductive" not in clean.summary()


@pytest.mark.parametrize("method", FITTED)
def test_under_refit_they_change_test_ids_alone(method: str, images: Tensor) -> None:
    clean = assigned(method, images, images[250:], "refit")
    poisoned = assigned(method, images, images[250:].flip(1) // 2, "refit")
    assert clean.transductive
    assert clean.summary()["transductive"] is True
    assert plain(poisoned.state()) != plain(clean.state())
    assert poisoned.summary()["test"] != clean.summary()["test"]
    for key in ("train", "val"):
        assert torch.equal(poisoned.ids[key], clean.ids[key])
        assert torch.equal(clean.ids[key], assigned(method, images, images[250:]).ids[key])


@pytest.mark.parametrize(("method", "fit"), [("kmeans", "kmeans"), ("gmm", "gmm"), ("random", "gmm")])
def test_refit_ids_are_those_of_a_fit_on_the_test_images(method: str, fit: str, images: Tensor) -> None:
    test = images[200:]
    found = assigned(method, images, test, "refit")
    expected = fit_partition(fit, test, clusters=3, seed=0).predict(test, split="test")
    assert torch.equal(found.ids["test"], expected)
    assert found.summary()["test"]["method"] == fit
    assert found.summary()["method"] == method


def test_random_training_ids_under_refit_are_drawn_with_the_shares_of_a_mixture(images: Tensor) -> None:
    found = assigned("random", images, images[250:], "refit")
    mixture = assigned("gmm", images, images[250:])
    assert found.summary()["frequencies"] == mixture.summary()["frequencies"]
    assert not torch.equal(found.ids["train"], mixture.ids["train"])


def test_a_run_s_state_loads_as_its_partition(images: Tensor) -> None:
    for how in ("predict", "refit"):
        found = assigned("gmm", images, images[250:], how)
        loaded = Partition.from_state(found.state())
        assert torch.equal(loaded.predict(images[200:250], split="val"), found.ids["val"])
    again = Partition.from_state(found.state()["test"])
    assert torch.equal(again.predict(images[250:], split="test"), found.ids["test"])

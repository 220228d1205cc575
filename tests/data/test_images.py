"""Whole data sets: what trains, validates and tests, and the moments of what trains."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from cbnorm.data import cifar, digits, images, pixels
from cbnorm.errors import CbnormError


def as_set(split):
    return set(split.indices.tolist())


@pytest.fixture(scope="module")
def loaded():
    return images.load("digits", val_images=137)


def test_digits_come_in_three_channels_of_32_pixels(loaded):
    assert loaded.train.images.shape == (1300, 3, 32, 32)
    assert loaded.val.images.shape == (137, 3, 32, 32)
    assert loaded.test.images.shape == (360, 3, 32, 32)
    assert loaded.train.images.dtype == torch.uint8
    assert loaded.train.labels.dtype == torch.int64
    assert (loaded.name, loaded.num_classes, loaded.class_names[3]) == ("Digits", 10, "3")
    assert torch.equal(loaded.test.images[:, 0], loaded.test.images[:, 2])


def test_the_digits_are_scikit_learns():
    data, labels = load_digits(return_X_y=True)
    train, test = digits.read()
    ours = sorted(
        (int(label), tuple(image.flatten().tolist()))
        for split in (train, test)
        for image, label in zip(split.images, split.labels, strict=True)
    )
    scaled = np.floor(data * 255 / 16 + 0.5).astype(int)
    theirs = sorted((int(label), tuple(image)) for label, image in zip(labels, scaled, strict=True))
    assert ours == theirs


def test_validation_and_training_images_are_disjoint_and_stratified(loaded):
    assert as_set(loaded.train).isdisjoint(as_set(loaded.val))
    assert len(as_set(loaded.train) | as_set(loaded.val)) == 1437
    counts = loaded.val.labels.bincount()
    assert counts.max() - counts.min() <= 2


def test_subsets_are_nested_and_share_validation_and_test_images(loaded):
    small, large = (images.load("digits", val_images=137, train_images=n) for n in (100, 300))
    assert as_set(small.train) < as_set(large.train) < as_set(loaded.train)
    assert torch.equal(small.val.indices, loaded.val.indices)
    assert torch.equal(small.test.images, loaded.test.images)
    assert small.train.labels.bincount().tolist() == [10] * 10


def test_the_seed_decides_training_and_validation_but_not_the_test(loaded):
    again, other = (images.load("digits", val_images=137, split_seed=seed) for seed in (0, 1))
    assert torch.equal(again.train.images, loaded.train.images)
    assert as_set(other.val) != as_set(loaded.val)
    assert torch.equal(other.test.indices, loaded.test.indices)


def test_the_seed_decides_which_images_train_where_the_same_ones_validate():
    options = {"val_images": 137, "split": "last", "train_images": 100}
    first, other = (images.load("digits", **options, split_seed=seed) for seed in (0, 1))
    assert torch.equal(first.val.indices, other.val.indices)
    assert as_set(first.train) != as_set(other.train)


def test_the_last_images_may_validate_instead(loaded):
    last = images.load("digits", val_images=137, split="last", train_images=100)
    assert last.val.indices.tolist() == list(range(1300, 1437))
    assert last.train.labels.bincount().tolist() == [10] * 10
    assert as_set(last.train) < set(range(1300))
    assert torch.equal(last.test.images, loaded.test.images)
    with pytest.raises(CbnormError, match="split=first is unknown"):
        images.load("digits", val_images=137, split="first")


def test_the_moments_may_be_imagenets(loaded):
    data = images.load("digits", val_images=137, statistics="imagenet")
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.equal(data.train.images, loaded.train.images)


def test_a_test_subset_is_the_same_for_every_seed():
    first, second = (images.load("digits", val_images=10, test_images=50, split_seed=seed) for seed in (0, 1))
    assert len(first.test) == 50
    assert torch.equal(first.test.indices, second.test.indices)


def test_moments_are_those_of_the_images_trained_on():
    data = images.load("digits", val_images=137, train_images=50)
    values = data.train.images.numpy().astype(np.float64) / 255
    assert data.mean == pytest.approx(values.mean(axis=(0, 2, 3)), rel=1e-12)
    assert data.std == pytest.approx(values.std(axis=(0, 2, 3)), rel=1e-12)


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ({"val_images": 1437}, "val_images=1437 is impossible: Digits has 1437 training images"),
        ({"val_images": -1}, "val_images=-1"),
        ({"val_images": 137, "train_images": 1301}, "choose 1 to 1300"),
        ({"val_images": 137, "train_images": 0}, "train_images=0"),
        ({"val_images": 137, "test_images": 361}, "Digits has 360 test images"),
        ({"val_images": 137, "image_size": 0}, "image_size=0"),
    ],
)
def test_impossible_numbers_are_refused_before_anything_is_read(monkeypatch, numbers, wrong):
    monkeypatch.setitem(images.READERS, "digits", None)
    with pytest.raises(CbnormError, match=wrong):
        images.load("digits", **numbers)


def test_files_may_be_forbidden_to_be_fetched(tiny):
    with pytest.raises(CbnormError, match=r"one\.bin is missing; run: cbnorm data fetch tiny"):
        images.load("tiny", val_images=1, download=False)


def test_other_digits_than_the_known_are_refused(monkeypatch):
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda return_X_y: (np.zeros((2, 64)), np.zeros(2)))
    with pytest.raises(CbnormError, match="not the known 1,797 images"):
        digits.read()


def test_records_hold_a_label_and_planes_of_red_green_and_blue(tmp_path):
    image = np.arange(3 * 32 * 32) % 251
    (tmp_path / "x.bin").write_bytes(bytes([7, *image]) + bytes([2] * 3073))
    split = cifar.read_records(tmp_path / "x.bin")
    assert split.labels.tolist() == [7, 2]
    assert split.images[0, 1, 2, 3] == (1024 + 2 * 32 + 3) % 251


def test_larger_images_are_interpolated_between_pixel_centres():
    ramp = torch.tensor([[0, 100], [100, 200]], dtype=torch.uint8).view(1, 1, 2, 2)
    assert pixels.resize(ramp, 4)[0, 0].tolist() == [
        [0, 25, 75, 100],
        [25, 50, 100, 125],
        [75, 100, 150, 175],
        [100, 125, 175, 200],
    ]


def test_smaller_images_are_means_over_areas():
    image = torch.tensor([[0, 10, 20, 20], [20, 30, 20, 21]], dtype=torch.uint8).repeat(2, 1).view(1, 1, 4, 4)
    assert pixels.resize(image, 2)[0, 0].tolist() == [[15, 20], [15, 20]]
    assert pixels.resize(image, 4) is image


@pytest.mark.real_data("cifar10")
def test_the_real_cifar10_is_the_published_one(cifar10):
    train, test = cifar.read(cifar10)
    assert train.images.shape == (50_000, 3, 32, 32)
    assert train.labels.bincount().tolist() == [5000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    # The first images are a frog and, in the test set, a cat.
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    mean, std = pixels.channel_moments(train.images)
    assert mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
    assert std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-5)
    first = train.images[0].numpy().tobytes()
    assert first == (cifar10 / "data_batch_1.bin").read_bytes()[1:3073]


@pytest.mark.real_data("cifar10")
def test_the_real_cifar10_is_split_by_class(cifar10):
    data = images.load("cifar10", val_images=5000, train_images=10_000, download=False)
    assert data.train.labels.bincount().tolist() == [1000] * 10
    assert data.val.labels.bincount().tolist() == [500] * 10
    assert len(data.test) == 10_000
    assert data.name == "CIFAR-10"
    assert data.checksums["test_batch.bin"] == "sha1:67eb016db431130d61cd03c7ad570b013799c88c"

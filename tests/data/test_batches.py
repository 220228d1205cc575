"""Batches are pure functions of seed, epoch and number, and normalised as they say."""

import itertools

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint

from cbnorm.data import augment, room
from cbnorm.data.augment import Augmentation
from cbnorm.data.batches import Batches
from cbnorm.data.splits import Split
from cbnorm.errors import CbnormError

FULL = Augmentation(flip=True, rotation=7.2, zoom=0.2)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def make_split(n, size=8):
    images = torch.randint(
        0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return Split(images, torch.arange(n))


def make(n=23, clusters=None, **options):
    options = {
        "batch_size": 5,
        "mean": MEAN,
        "std": STD,
        "seed": 0,
        "shuffle": True,
        "device": "cpu",
    } | options
    return Batches(make_split(n), clusters, **options)


def labels_of(batches):
    return [labels.tolist() for _, labels, _ in batches]


def flat_of(lists):
    return list(itertools.chain.from_iterable(lists))


def assert_same(first, second):
    for ours, theirs in zip(first, second, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)


@given(st.integers(1, 40), st.integers(1, 45), st.booleans(), st.booleans())
def test_an_epoch_holds_every_image_once(n, batch_size, shuffle, drop_last):
    if drop_last and batch_size > n:
        return
    batches = make(n, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last)
    found = labels_of(batches)
    assert len(found) == len(batches)
    assert all(len(labels) == batch_size for labels in found[:-1])
    flat = flat_of(found)
    assert len(set(flat)) == len(flat) == (n // batch_size * batch_size if drop_last else n)
    if not shuffle:
        assert flat == list(range(len(flat)))


def test_images_are_normalised_by_the_given_moments():
    split = make_split(5)
    ((images, _, _),) = make(5, shuffle=False)
    mean, std = (torch.tensor(moment).double().view(3, 1, 1) for moment in (MEAN, STD))
    expected = (split.images.double() / 255 - mean) / std
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.double(), expected, atol=1e-6, rtol=1e-6)


def test_labels_and_clusters_follow_their_images():
    split = make_split(23)
    plain = (split.images.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    for images, labels, clusters in make(clusters=torch.arange(23) * 10):
        torch.testing.assert_close(images.double(), plain[labels], atol=1e-5, rtol=0)
        assert torch.equal(clusters, labels * 10)


def test_without_clusters_all_are_unknown():
    assert all((clusters == -1).all() and clusters.dtype == torch.int64 for _, _, clusters in make())


def test_the_sampler_says_which_epoch_comes():
    batches = make(augmentation=FULL)
    assert_same(batches, batches.epoch(0))
    batches.sampler.set_epoch(7)
    assert_same(batches, batches.epoch(7))
    assert labels_of(batches.epoch(0)) != labels_of(batches.epoch(7))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100), st.integers(0, 5))
def test_any_batch_of_any_epoch_can_be_made_again(epoch, start):
    whole = list(make(augmentation=FULL).epoch(epoch))
    assert_same(make(augmentation=FULL).epoch(epoch, start), whole[start:])


def test_the_seed_decides_and_the_global_generator_does_not():
    torch.manual_seed(1)
    first = list(make(augmentation=FULL))
    torch.manual_seed(2)
    assert_same(first, make(augmentation=FULL))
    assert labels_of(make(seed=1)) != labels_of(first)


def test_neither_batch_size_nor_augmentation_changes_the_order():
    orders = [make(**options) for options in ({}, {"batch_size": 7}, {"augmentation": FULL})]
    first, *others = (flat_of(labels_of(batches)) for batches in orders)
    assert all(other == first for other in others)


def test_the_batch_size_does_not_change_how_images_are_varied():
    whole, parts = (
        torch.cat([batch[0] for batch in make(augmentation=FULL, batch_size=size)]) for size in (23, 4)
    )
    torch.testing.assert_close(whole, parts, atol=1e-6, rtol=0)


def test_the_seed_decides_how_images_are_varied_too():
    first, other = (next(iter(make(shuffle=False, augmentation=FULL, seed=seed))) for seed in (0, 1))
    assert torch.equal(first[1], other[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("fill", ["reflect", "nearest"])
def test_what_lies_behind_the_border_is_filled_as_asked(fill):
    shifted = Augmentation(shift=0.5, fill=fill)
    batches = make(batch_size=23, mean=(0,) * 3, std=(1 / 255,) * 3, shuffle=False, augmentation=shifted)
    ((images, _, _),) = batches
    _, params = batches.drawn(0)
    expected = augment.apply(make_split(23).images.float(), params, fill)
    torch.testing.assert_close(images, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("augmentation", [None, Augmentation(flip=True), FULL])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_layout_does_not_change_the_values(augmentation, shuffle):
    plain = make(augmentation=augmentation, shuffle=shuffle)
    last = make(augmentation=augmentation, shuffle=shuffle, memory_format=torch.channels_last)
    for (ours, labels, _), (theirs, other, _) in zip(plain, last, strict=True):
        assert theirs.is_contiguous(memory_format=torch.channels_last)
        assert ours.is_contiguous()
        assert torch.equal(labels, other)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("augmentation", [None, FULL])
def test_images_mapped_from_a_file_give_the_same_batches(
    tmp_path, monkeypatch, memory_format, shuffle, augmentation
):
    monkeypatch.setattr(room, "SHARE", 0)
    split = make_split(23)
    mapped = Split(room.gathered(split.images.split(7), split.images.shape, tmp_path), split.labels)
    options = {"batch_size": 5, "mean": MEAN, "std": STD, "seed": 1} | {
        "shuffle": shuffle,
        "augmentation": augmentation,
        "memory_format": memory_format,
    }
    streamed, held = Batches(mapped, None, **options), Batches(split, None, resident=True, **options)
    assert held.resident
    assert not streamed.resident
    assert_same(streamed.epoch(1), held.epoch(1))
    assert all(batch[0].is_contiguous(memory_format=memory_format) for batch in streamed.epoch(1))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_consumer_that_writes_into_a_batch_harms_nobody(memory_format, shuffle):
    batches = make(memory_format=memory_format, shuffle=shuffle)
    before = [images.clone() for images, _, _ in batches]
    for images, _, _ in batches:
        images.zero_()
    assert all(torch.equal(images, old) for (images, _, _), old in zip(batches, before, strict=True))


@pytest.mark.parametrize(
    ("options", "error", "wrong"),
    [
        ({"batch_size": 0}, CbnormError, "batch_size=0 is impossible for 23 images"),
        ({"batch_size": 24, "drop_last": True}, CbnormError, "batch_size=24 is impossible"),
        ({"clusters": torch.zeros(22)}, ValueError, "23 images, but clusters of shape"),
        ({"mean": (0.5,)}, ValueError, "3 channels, but 1 means"),
        ({"std": (0.5, 0.5, 0.0)}, ValueError, "must be positive"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, wrong):
    with pytest.raises(error, match=wrong):
        make(**options)


class Witness(lightning.LightningModule):
    """Remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, _index):
        images, labels, _ = batch
        self.seen.append((self.current_epoch, labels.tolist(), images.sum().item()))
        return self.layer(images.mean().view(1, 1)).sum()

    def validation_step(self, batch, _index):
        assert len(batch[1]) > 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, save_at, checkpoint=None):
    module = Witness()
    saving = ModelCheckpoint(
        folder, "saved", every_n_train_steps=save_at, save_top_k=int(save_at is not None)
    )
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=4, callbacks=saving, **quiet)
    trainer.fit(module, make(augmentation=FULL), make(shuffle=False), ckpt_path=checkpoint, weights_only=True)
    return module.seen


# Lightning's own use of torch; nothing here can change it.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:Checkpoint directory")
@pytest.mark.parametrize("step", [11, 13, 14, 15])
def test_lightning_shows_a_resumed_run_what_an_uninterrupted_one_sees(tmp_path, step):
    whole = fit(tmp_path, step)
    assert [epoch for epoch, _, _ in whole] == [epoch for epoch in range(4) for _ in range(5)]
    assert [labels for epoch, labels, _ in whole if epoch == 3] == labels_of(make().epoch(3))
    assert fit(tmp_path, step, tmp_path / "saved.ckpt") == whole[step:]

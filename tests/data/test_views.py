"""Batches of two domains: functions of seed, epoch and place, blind to the target's labels."""

import pytest
import torch

from cbnorm.data import augment, randaugment
from cbnorm.data.augment import Augmentation
from cbnorm.data.randaugment import RandAugment
from cbnorm.data.splits import Split
from cbnorm.data.views import ViewBatches
from cbnorm.errors import CbnormError

SHIFTED = Augmentation(shift=0.125, fill="nearest")


def split(n, mark, side=8):
    """Images whose corner holds their number, so that they can be told in weak views that change nothing."""
    images = torch.randint(
        256, (n, 3, side, side), generator=torch.Generator().manual_seed(mark), dtype=torch.uint8
    )
    images[:, 0, 0, 0] = torch.arange(n)
    images[:, 1, 0, 0] = mark
    return Split(images, torch.arange(n) % 10)


def batches(source=None, target=None, *, weak=SHIFTED, strong=None, seed=0, size=4, ratio=3, **more):
    return ViewBatches(
        split(40, 1) if source is None else source,
        split(50, 2) if target is None else target,
        batch_size=size,
        ratio=ratio,
        seed=seed,
        weak=weak,
        strong=strong or RandAugment(),
        **more,
    )


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_an_epoch_ends_with_the_shorter_stream():
    assert len(batches()) == 5  # 50 / 12, the last with 2 images
    sizes = [(len(v.source_weak), len(v.target_weak)) for v in batches().epoch(0)]
    assert sizes == [(4, 12)] * 4 + [(4, 2)]
    assert batches().images == 20 + 50
    assert len(batches(target=split(200, 2))) == 10
    # MNIST against SVHN, as in the Keras example.
    assert min(-(-60_000 // 64), -(-73_257 // 192)) == 382


def test_a_batch_is_a_function_of_seed_epoch_and_place():
    whole = list(batches().epoch(3))
    assert all(same(a, b) for a, b in zip(whole, batches().epoch(3), strict=True))
    assert all(same(a, b) for a, b in zip(whole[2:], batches().epoch(3, 2), strict=True))
    assert not same(whole[0], next(batches().epoch(4)))
    assert not same(whole[0], next(batches(seed=1).epoch(3)))


def test_every_image_comes_once_an_epoch_with_its_label_and_others_the_next():
    seen = []
    for epoch in range(2):
        numbers = []
        for views in batches(weak=Augmentation()).epoch(epoch):
            assert (views.source_weak[:, 1, 0, 0] == 1).all()
            assert (views.target_weak[:, 1, 0, 0] == 2).all()
            found = views.source_weak[:, 0, 0, 0].long()
            assert torch.equal(found % 10, views.source_labels)
            numbers += found.tolist()
        assert len(numbers) == len(set(numbers)) == 20
        seen.append(set(numbers))
    assert seen[0] != seen[1]


def test_labels_of_the_target_are_never_seen():
    target = split(50, 2)
    other = Split(target.images, target.labels.flip(0))
    assert all(same(a, b) for a, b in zip(batches().epoch(0), batches(target=other).epoch(0), strict=True))


def test_views_are_of_the_same_images():
    plain = next(batches(weak=Augmentation(), strong=RandAugment(0)).epoch(1))
    for weak, strong in ((plain.source_weak, plain.source_strong), (plain.target_weak, plain.target_strong)):
        assert torch.equal(weak, strong)
        assert weak.dtype == torch.float32
        assert weak.max() > 200
    views = next(batches().epoch(1))
    assert torch.equal(views.source_labels, plain.source_labels)
    assert not torch.equal(views.source_weak, views.source_strong)


def test_weak_and_strong_views_are_those_of_their_modules():
    given = batches()
    views = list(given.epoch(0))
    plain = list(batches(weak=Augmentation(), strong=RandAugment(0)).epoch(0))
    from cbnorm.data.streams import generator

    weak = augment.draw(50, generator(0, "weak-target", 0), SHIFTED)
    strong = randaugment.draw(50, generator(0, "strong-target", 0), RandAugment())
    for number, (one, before) in enumerate(zip(views, plain, strict=True)):
        part = slice(12 * number, min(12 * number + 12, 50))
        images = before.target_weak
        expected = augment.apply(images, weak.part(part.start, part.stop), "nearest")
        torch.testing.assert_close(one.target_weak, expected)
        harder = randaugment.apply(images.to(torch.uint8), strong.part(part.start, part.stop), 0.5)
        assert torch.equal(one.target_strong, harder.float())


def test_rows_that_differ_in_the_strong_views_share_order_and_weak_views():
    one, other = next(batches().epoch(0)), next(batches(strong=RandAugment(1, 0.9)).epoch(0))
    assert torch.equal(one.source_weak, other.source_weak)
    assert torch.equal(one.target_weak, other.target_weak)
    assert not torch.equal(one.target_strong, other.target_strong)


def test_views_come_in_the_layout_that_is_asked_for():
    views = next(batches(memory_format=torch.channels_last).epoch(0))
    assert all(
        view.is_contiguous(memory_format=torch.channels_last) for view in (views[0], views[1], views[4])
    )
    assert same(views, next(batches().epoch(0)))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"ratio": 0}, {"source": split(0, 1)}])
def test_impossible_batches_are_refused(wrong):
    with pytest.raises(CbnormError, match="is impossible for"):
        batches(**wrong)

"""Splits are stratified, seeded and nested."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cbnorm.data.splits import Split, divide, fold_positions, stratified_order

labels = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(torch.tensor)
seeds = st.integers(0, 2**31)


@given(labels, seeds)
def test_the_order_is_a_permutation(labels, seed):
    assert stratified_order(labels, seed, "x").sort().values.tolist() == list(range(len(labels)))


@given(labels, seeds, st.data())
def test_every_beginning_holds_each_class_in_proportion(labels, seed, data):
    size = data.draw(st.integers(0, len(labels)))
    counts = torch.bincount(labels[stratified_order(labels, seed, "x")[:size]], minlength=7)
    share = torch.bincount(labels, minlength=7) / len(labels)
    # Each class is rounded on its own, by at most 1/2 plus its share of the others' roundings.
    present = int((share > 0).sum())
    assert ((counts - size * share).abs() <= 0.5 + (1 + present / 2) * share + 1 / 2 + 1e-6).all()


def test_a_small_class_has_its_first_image_at_half_its_distance():
    """Sainte-Lague: ten images in a hundred come first at a twentieth of the order, not at a tenth."""
    labels = torch.tensor([0] * 90 + [1] * 10)
    places = (labels[stratified_order(labels, 0, "x")] == 1).nonzero()[:, 0]
    assert ((places - (10 * torch.arange(10) + 4.5)).abs() <= 0.5).all()


@given(st.integers(1, 20), st.integers(1, 7), seeds, st.data())
def test_equal_classes_differ_by_one_at_most(per_class, classes, seed, data):
    labels = torch.arange(classes).repeat_interleave(per_class)
    size = data.draw(st.integers(0, len(labels)))
    counts = torch.bincount(labels[stratified_order(labels, seed, "x")[:size]], minlength=classes)
    assert counts.max() - counts.min() <= 1


@given(labels, seeds, st.data())
def test_a_smaller_sample_is_contained_in_a_larger_one(labels, seed, data):
    small = data.draw(st.integers(0, len(labels)))
    large = data.draw(st.integers(small, len(labels)))
    fewer, more = (set(divide(labels, size, seed, "x")[0].tolist()) for size in (small, large))
    assert fewer <= more
    assert (len(fewer), len(more)) == (small, large)


@given(labels, seeds, st.data())
def test_both_parts_are_sorted_and_make_up_the_whole(labels, seed, data):
    first, others = divide(labels, data.draw(st.integers(0, len(labels))), seed, "x")
    assert sorted([*first.tolist(), *others.tolist()]) == list(range(len(labels)))
    assert first.tolist() == sorted(first.tolist())
    assert others.tolist() == sorted(others.tolist())


def test_seed_and_stream_decide_the_order():
    labels = torch.arange(100) % 10
    order = stratified_order(labels, 0, "x")
    assert torch.equal(order, stratified_order(labels, 0, "x"))
    assert not torch.equal(order, stratified_order(labels, 1, "x"))
    assert not torch.equal(order, stratified_order(labels, 0, "y"))


def test_every_image_is_equally_likely_to_be_chosen():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    counts = torch.zeros(12)
    for seed in range(2000):
        counts[divide(labels, 5, seed, "x")[0]] += 1
    # 2000 draws with probability 5/12 each: standard deviation 22; classes of 3 share the rest.
    for label in range(3):
        of_class = counts[labels == label]
        assert (of_class - of_class.mean()).abs().max() < 110


def test_taking_keeps_the_official_places():
    split = Split(torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1), torch.arange(5) * 10)
    twice = split.take(torch.tensor([1, 3, 4])).take(torch.tensor([2, 0]))
    assert twice.indices.tolist() == [4, 1]
    assert twice.labels.tolist() == [40, 10]
    assert twice.images.flatten().tolist() == [4, 1]
    assert len(split.take(torch.tensor([], dtype=torch.int64))) == 0


def test_parts_of_different_length_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        Split(torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))


def test_attributes_follow_their_images():
    split = Split(torch.arange(4).view(4, 1, 1, 1), torch.zeros(4).long(), attributes={"of": torch.arange(4)})
    taken = split.take(torch.tensor([3, 1]))
    assert taken.images.flatten().tolist() == taken.attributes["of"].tolist() == [3, 1]
    assert taken.take(torch.tensor([1])).attributes["of"].tolist() == [1]


def test_attributes_of_another_length_are_refused():
    with pytest.raises(ValueError, match="attributes differ in length"):
        Split(torch.zeros(2, 1, 1, 1), torch.zeros(2).long(), attributes={"of": torch.zeros(3)})


@given(labels, st.integers(2, 6))
def test_folds_divide_all_images_and_every_class_in_proportion(labels, folds):
    everything = list(range(len(labels)))
    divided = [fold_positions(labels, folds, fold) for fold in range(folds)]
    for others, tested in divided:
        assert sorted([*others.tolist(), *tested.tolist()]) == everything
    assert sorted(torch.cat([tested for _, tested in divided]).tolist()) == everything
    counts = torch.bincount(labels, minlength=7)
    share = counts / len(labels)
    for _, tested in divided:
        found = torch.bincount(labels[tested], minlength=7)
        # Rounded at both ends, as every beginning of the order is.
        rounding = 1 + share * int((share > 0).sum())
        assert ((found - share * len(tested)).abs() <= rounding + 1e-4).all()


def test_folds_of_equal_classes_that_come_out_even_are_exact():
    labels = torch.arange(10).repeat(20)
    for fold in range(5):
        assert labels[fold_positions(labels, 5, fold)[1]].bincount().tolist() == [4] * 10

"""Precision, recall, density, coverage and classes against their definitions, written as loops."""

import math

import pytest
import torch

from cbnorm.metrics import Neighbourhood, class_entropy, nearest_labels, neighbourhood, neighbours, spread


def by_definition(real, samples, k):
    """The four sums of Kynkäänniemi et al. (2019) and Naeem et al. (2020), image by image."""

    def radius(points, i):
        return sorted((points[i] - points[j]).norm().item() for j in range(len(points)) if j != i)[k - 1]

    balls = [radius(real, i) for i in range(len(real))]
    own = [radius(samples, j) for j in range(len(samples))]
    inside = [[(x - y).norm().item() <= r for y in samples] for x, r in zip(real, balls, strict=True)]
    n, m = len(real), len(samples)
    return Neighbourhood(
        precision=sum(any(inside[i][j] for i in range(n)) for j in range(m)) / m,
        recall=sum(any((x - samples[j]).norm().item() <= own[j] for j in range(m)) for x in real) / n,
        density=sum(map(sum, inside)) / (k * m),
        coverage=sum(map(any, inside)) / n,
    )


@pytest.fixture(params=[7, 1024])
def chunk(request, monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK", request.param)


@pytest.mark.parametrize("k", [1, 5])
def test_they_are_what_their_definitions_say(chunk, k):
    stream = torch.Generator().manual_seed(k)
    real = torch.randn(30, 3, generator=stream, dtype=torch.float64)
    samples = 0.5 + 0.7 * torch.randn(21, 3, generator=stream, dtype=torch.float64)
    assert neighbourhood(real, samples, k) == pytest.approx(by_definition(real, samples, k), abs=1e-12)


def test_one_mode_of_two_is_precise_but_covers_half():
    stream = torch.Generator().manual_seed(0)
    left, right, again = (torch.randn(200, 4, generator=stream) for _ in range(3))
    found = neighbourhood(torch.cat([left, right + 100]), again)
    assert found.precision > 0.9
    assert 0.4 < found.coverage <= 0.5
    assert found.recall <= 0.5


def test_one_image_over_and_over_covers_almost_nothing():
    stream = torch.Generator().manual_seed(0)
    real = torch.randn(300, 4, generator=stream)
    found = neighbourhood(real, real[:1].expand(300, 4))
    assert found.recall <= 1 / 300
    assert found.coverage <= 15 / 300
    assert found.precision == 1


def test_samples_far_from_everything_count_nowhere():
    real = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert neighbourhood(real, real + 1000) == Neighbourhood(0, 0, 0, 0)


@pytest.mark.parametrize("k", [0, 5, 6])
def test_too_few_images_for_k_are_refused(k):
    with pytest.raises(ValueError, match=f"k={k} neighbours need"):
        neighbourhood(torch.rand(9, 2), torch.rand(5, 2), k)


def test_features_of_other_spaces_are_refused():
    for measure in (neighbourhood, lambda a, b: nearest_labels(a, torch.zeros(9), b)):
        with pytest.raises(ValueError, match=r"shapes \(9, 2\) and \(9, 3\)"):
            measure(torch.rand(9, 2), torch.rand(9, 3))


def test_classes_by_the_nearest_image_are_those_of_a_loop():
    stream = torch.Generator().manual_seed(0)
    real, samples = torch.randn(40, 3, generator=stream), torch.randn(25, 3, generator=stream)
    labels = torch.randint(4, (40,), generator=stream)
    wanted = [labels[min(range(40), key=lambda i: (real[i] - sample).norm().item())] for sample in samples]
    assert nearest_labels(real, labels, samples).tolist() == wanted
    assert nearest_labels(real, labels, real).tolist() == labels.tolist()


def test_entropy_lies_between_one_class_and_all_alike():
    assert class_entropy(torch.full((9,), 2), 5) == 0
    assert class_entropy(torch.arange(5).repeat(3), 5) == pytest.approx(math.log(5))
    assert class_entropy(torch.tensor([0, 0, 0, 1]), 9) == pytest.approx(
        -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    )


def test_collapse_is_told_by_variance_or_by_near_copies_alone():
    stream = torch.Generator().manual_seed(0)
    real, others = torch.randn(400, 8, generator=stream), torch.randn(400, 8, generator=stream)
    same = spread(real, others + 50)
    assert (round(same.variance, 1), same.nearest) == (1.0, pytest.approx(1, abs=0.2))
    assert not same.collapsed
    narrow = spread(real, 0.2 * others)
    assert narrow.variance == pytest.approx(0.04, abs=0.01)
    assert narrow.collapsed
    copies = spread(real, others[:20].repeat(20, 1) + 1e-3 * torch.randn(400, 8, generator=stream))
    assert copies.variance > 0.5
    assert copies.nearest < 1e-3
    assert copies.collapsed


def test_collapse_needs_sets_of_one_size():
    with pytest.raises(ValueError, match="9 real images can't be compared with 8 samples"):
        spread(torch.rand(9, 2), torch.rand(8, 2))

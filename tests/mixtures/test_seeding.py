"""k-means++ chooses rows of the data, spread out, from its generator alone."""

import pytest
import torch

from cbnorm.mixtures import kmeans_plusplus
from cbnorm.mixtures.seeding import draw_proportionally


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_centers_are_distinct_rows():
    data = torch.randn(200, 6, generator=seeded())
    centers = kmeans_plusplus(data, 20, generator=seeded(1))
    rows = {tuple(row) for row in data.tolist()}
    chosen = [tuple(row) for row in centers.tolist()]
    assert set(chosen) <= rows
    assert len(set(chosen)) == 20


def test_every_separate_group_gets_a_center():
    groups = torch.arange(8.0)[:, None, None] * 1000 + torch.randn(8, 50, 3, generator=seeded())
    for seed in range(10):
        centers = kmeans_plusplus(groups.flatten(0, 1), 8, generator=seeded(seed))
        assert (centers[:, 0] / 1000).round().unique().numel() == 8


def test_generator_decides_alone():
    data = torch.randn(300, 4, generator=seeded())
    torch.manual_seed(1)
    first = kmeans_plusplus(data, 5, generator=seeded(7))
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, kmeans_plusplus(data, 5, generator=seeded(7)))
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert any(not torch.equal(first, kmeans_plusplus(data, 5, generator=seeded(seed))) for seed in range(3))


def test_duplicates_are_not_chosen_while_other_points_remain():
    data = torch.cat([torch.full((1000, 2), 1e3), torch.tensor([[1e3 + 1, 1e3], [1e3, 1e3 + 1]])])
    for seed in range(10):
        assert kmeans_plusplus(data, 3, generator=seeded(seed)).unique(dim=0).shape[0] == 3


def test_fewer_distinct_points_than_centers_gives_coinciding_centers():
    centers = kmeans_plusplus(torch.ones(5, 2), 3, generator=seeded())
    assert torch.equal(centers, torch.ones(3, 2))


@pytest.mark.parametrize(("shape", "k"), [((5, 2), 0), ((5, 2), 6), ((0, 2), 1), ((5,), 1)])
def test_impossible_requests_are_refused(shape, k):
    with pytest.raises(ValueError, match=r"k must be|non-empty"):
        kmeans_plusplus(torch.zeros(shape), k)


def test_draws_are_proportional_to_masses():
    masses = torch.tensor([1.0, 0.0, 2.0, 5.0, 0.0])
    ids = draw_proportionally(masses, (torch.arange(8000) + 0.5) / 8000)
    assert torch.bincount(ids, minlength=5).tolist() == [1000, 0, 2000, 5000, 0]

"""Measures against their definitions, and what a contact sheet shows."""

import math

import pytest
import torch
from PIL import Image

from cbnorm.data.splits import Split
from cbnorm.partitions import fit_partition, measures
from cbnorm.partitions.sheet import contact_sheet


def test_knowledge_is_mutual_information() -> None:
    labels = torch.arange(8).repeat(10)
    assert measures.knowledge(labels // 2, labels)["bits"] == pytest.approx(2)
    assert measures.knowledge(labels // 2, labels)["nmi"] == pytest.approx(2 * 2 / (2 + 3))
    assert measures.knowledge(labels, labels) == {"nmi": 1.0, "bits": 3.0}
    assert measures.knowledge(torch.zeros_like(labels), labels) == {"nmi": 0.0, "bits": 0.0}


def test_silhouette_is_near_one_for_tight_clusters_and_none_for_one() -> None:
    ids = torch.arange(3).repeat(50)
    points = ids[:, None] * 100.0 + torch.randn(150, 2, generator=torch.Generator().manual_seed(0))
    assert measures.silhouette(points, ids) > 0.95
    assert measures.silhouette(points, torch.zeros_like(ids)) is None
    assert measures.silhouette(points, torch.arange(150)) is None


def test_samples_are_seeded_and_without_repetition() -> None:
    first, again, other = (measures.sample(100, 30, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) == 30
    assert measures.sample(5, 30, 0).tolist() == list(range(5))


def test_agreement_ignores_the_names_of_clusters() -> None:
    a = torch.tensor([0, 0, 1, 1, 2, 2])
    assert measures.adjusted_rand(a, (a + 1) % 3) == 1
    assert measures.contingency(a, (a + 1) % 3).tolist() == [[0, 2, 0], [0, 0, 2], [2, 0, 0]]
    draw = torch.Generator().manual_seed(0)
    b, c = (torch.randint(4, (5000,), generator=draw) for _ in range(2))
    assert math.isclose(measures.adjusted_rand(b, c), 0, abs_tol=0.01)


def test_points_are_those_that_were_clustered(grouped) -> None:
    images, groups = grouped
    split = Split(images, groups)
    fit = fit_partition("kmeans", images, clusters=2, seed=0)
    chosen = torch.tensor([3, 5])
    torch.testing.assert_close(
        measures.clustered_points(fit, split, chosen), images[chosen].flatten(1).double()
    )
    assert measures.clustered_points(None, split, chosen).shape == (2, 64)
    assert (measures.features_name(fit), measures.features_name(None)) == ("raw", "pca64")


def test_a_contact_sheet_shows_images_of_each_cluster_and_no_other(tmp_path) -> None:
    """Clusters of one colour each: the colours of a cluster's block are its own."""
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    ids = torch.tensor([0] * 30 + [1] * 3 + [2] * 10)
    images = colours[ids][:, :, None, None].expand(-1, -1, 8, 8)
    sheet = contact_sheet(images, ids, 4, per_cluster=6, columns=3)
    block = sheet.height // 4
    for cluster, shown in enumerate((6, 3, 6, 0)):
        part = sheet.crop((0, cluster * block, sheet.width, (cluster + 1) * block))
        found = {colour: count for count, colour in part.getcolors(1000)}
        for other, colour in enumerate(colours.tolist()):
            assert found.get(tuple(colour), 0) == (64 * shown if other == cluster else 0)
    sheet.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as saved:
        assert saved.size == sheet.size
    assert contact_sheet(images, ids, 4, per_cluster=6, columns=3).tobytes() == sheet.tobytes()

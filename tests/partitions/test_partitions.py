"""Partitions recover groups, depend on seed and training images alone, and come back from their state."""

import io
import subprocess
import sys

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from cbnorm.mixtures import Mixture
from cbnorm.partitions import METHODS, PIXEL_FEATURES, Partition, fit_partition
from cbnorm.partitions.partition import most_probable

PIXEL_METHODS = tuple(method for method in METHODS if method != "mn_components")


@pytest.mark.parametrize("features", PIXEL_FEATURES)
@pytest.mark.parametrize("method", ["kmeans", "gmm"])
def test_groups_are_recovered(grouped, method, features):
    images, groups = grouped
    partition = fit_partition(method, images, clusters=3, seed=0, features=features)
    ids = partition.predict(images, split="train")
    assert ids.dtype == torch.int64
    assert adjusted_rand_score(groups, ids) > 0.98
    assert torch.equal(torch.bincount(ids, minlength=3) / 300, partition.frequencies.float())


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_ids_do_not_depend_on_chunks_or_on_the_global_generator(grouped, method):
    images, _ = grouped
    torch.manual_seed(1)
    first = fit_partition(method, images, clusters=4, seed=3)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    again = fit_partition(method, images, clusters=4, seed=3)
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())
    whole = first.predict(images, split="val")
    assert torch.equal(whole, again.predict(images, split="val"))
    for size in (1, 7, 64):
        parts = [
            again.predict(images[i : i + size], split="val", start=i) for i in range(0, len(images), size)
        ]
        assert torch.equal(torch.cat(parts), whole)


def test_ties_go_to_the_lowest_index_whatever_the_chunk():
    # Halfway between both centres, where rounding would otherwise decide.
    images = torch.tensor([0, 200], dtype=torch.uint8).repeat(50)[:, None, None, None].expand(-1, 3, 9, 9)
    partition = fit_partition("kmeans", images, clusters=2, seed=0)
    halfway = torch.full((101, 3, 9, 9), 100, dtype=torch.uint8)
    assert partition.predict(halfway, split="test").tolist() == [0] * 101


def test_what_rounding_could_decide_is_a_tie():
    mixture = Mixture(
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        torch.tensor([[0.1 + 0.2], [-0.3]], dtype=torch.float64),
        torch.ones(2, 1, dtype=torch.float64),
    )
    points = torch.tensor([[0.0], [1e-6], [-1e-6]], dtype=torch.float64)
    assert mixture.means[0].abs() > mixture.means[1].abs()
    assert most_probable(points, mixture).tolist() == [0, 0, 1]


def test_the_most_probable_component_knows_weights_and_variances():
    draw = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.05, 0.25, 0.7], dtype=torch.float64)
    means = torch.randn(3, 4, generator=draw, dtype=torch.float64)
    variances = torch.tensor([0.1, 1, 9], dtype=torch.float64)[:, None] * torch.rand(
        3, 4, generator=draw, dtype=torch.float64
    ).add(0.5)
    points = 2 * torch.randn(3000, 4, generator=draw, dtype=torch.float64)
    density = torch.distributions.Normal(means, variances.sqrt()).log_prob(points[:, None]).sum(-1).exp()
    expected = (weights * density).argmax(1)
    assert torch.bincount(expected).min() > 10
    assert torch.equal(most_probable(points, Mixture(weights, means, variances)), expected)
    with pytest.raises(ValueError, match="NaN or infinity"):
        most_probable(points * torch.nan, Mixture(weights, means, variances))


def test_random_ids_have_the_mixture_s_frequencies_and_ignore_the_images(grouped):
    images, groups = grouped
    random = fit_partition("random", images, clusters=3, seed=0)
    mixture = fit_partition("gmm", images, clusters=3, seed=0)
    assert torch.equal(random.frequencies, mixture.frequencies)
    many = images[:1].expand(20000, -1, -1, -1)
    train = random.predict(many, split="train")
    shares = torch.bincount(train, minlength=3) / len(train)
    torch.testing.assert_close(shares.double(), random.frequencies, atol=0.015, rtol=0)
    assert torch.equal(random.predict(images.flip(0), split="train"), train[:300])
    assert abs(adjusted_rand_score(groups, train[:300])) < 0.05
    assert not torch.equal(random.predict(many, split="test"), train)
    other = fit_partition("random", images, clusters=3, seed=1)
    assert not torch.equal(other.predict(many, split="train"), train)


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_state_survives_a_safe_load(grouped, method):
    images, _ = grouped
    partition = fit_partition(method, images, clusters=3, seed=5)
    buffer = io.BytesIO()
    torch.save(partition.state(), buffer)
    buffer.seek(0)
    loaded = Partition.from_state(torch.load(buffer, weights_only=True))
    assert torch.equal(loaded.predict(images, split="test"), partition.predict(images, split="test"))
    assert loaded.summary() == partition.summary()


def test_summary_records_the_fit(grouped):
    images, _ = grouped
    summary = fit_partition("gmm", images, clusters=3, seed=0).summary()
    assert summary["features"] == "pca64"
    assert summary["feature_dimensions"] == 64
    assert sum(summary["sizes"]) == 300
    assert summary["converged"] is True
    few = fit_partition("gmm", images[:20], clusters=2, seed=0).summary()
    assert few["feature_dimensions"] == 20


def test_state_of_another_version_is_refused(grouped):
    state = fit_partition("kmeans", grouped[0], clusters=2, seed=0).state()
    with pytest.raises(ValueError, match="fit it again"):
        Partition.from_state(state | {"version": 99})


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_one_cluster_holds_everything(grouped, method):
    partition = fit_partition(method, grouped[0], clusters=1, seed=0)
    assert partition.predict(grouped[0], split="train").sum() == 0
    assert partition.frequencies.tolist() == [1.0]


def test_constant_pixels_are_no_obstacle(grouped):
    images, groups = grouped
    framed = torch.nn.functional.pad(images, (2, 2, 2, 2))
    ids = fit_partition("gmm", framed, clusters=3, seed=0).predict(framed, split="train")
    assert adjusted_rand_score(groups, ids) > 0.98


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (torch.zeros(4, 3, 2, 2, dtype=torch.uint8), {"clusters": 0}, "clusters must lie"),
        (torch.zeros(4, 3, 2, 2, dtype=torch.uint8), {"clusters": 5}, "clusters must lie"),
        (torch.zeros(4, 3, 2, 2, dtype=torch.uint8), {"clusters": 2}, "fewer than 2"),
        (torch.zeros(0, 3, 2, 2, dtype=torch.uint8), {"clusters": 1}, "non-empty"),
        (torch.zeros(4, 12), {"clusters": 1}, "non-empty"),
        (torch.full((4, 3, 2, 2), torch.nan), {"clusters": 1}, "NaN"),
        (torch.rand(4, 3, 2, 2), {"clusters": 2, "features": "pixels"}, "features must be one of"),
    ],
)
@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_bad_input_is_refused_in_one_line(method, images, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit_partition(method, images, seed=0, **arguments)
    assert "\n" not in str(caught.value)


def test_unknown_method_and_foreign_images_are_refused(grouped):
    images, _ = grouped
    with pytest.raises(ValueError, match="method must be one of"):
        fit_partition("spectral", images, clusters=2, seed=0)
    partition = fit_partition("kmeans", images, clusters=2, seed=0)
    with pytest.raises(ValueError, match="fitted on images of shape"):
        partition.predict(images[:, :, :4], split="test")
    with pytest.raises(ValueError, match="NaN"):
        partition.predict(torch.full((2, 3, 8, 8), torch.nan), split="test")


def test_importing_the_package_imports_no_torch():
    code = "import sys, cbnorm.partitions; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

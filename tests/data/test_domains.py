"""Two sets as one: domains in order, shares kept, and the identity of both."""

import pytest
import torch

from cbnorm.data import catalog, domains, images, overview, sources
from cbnorm.data.splits import Split
from cbnorm.errors import CbnormError


def noise(n, channels, side, seed=0):
    made = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, channels, side, side), generator=made, dtype=torch.uint8)
    return Split(pixels, torch.arange(n) % 10)


def test_splits_of_two_sizes_are_joined_in_order():
    joined = domains.join([noise(20, 1, 28), noise(30, 3, 32, 1)], 32)
    assert joined.images.shape == (50, 3, 32, 32)
    assert joined.attributes["domain"].tolist() == [0] * 20 + [1] * 30
    assert joined.labels.tolist() == [n % 10 for n in (*range(20), *range(30))]
    assert joined.indices.tolist() == list(range(50))
    assert torch.equal(joined.images[20:], noise(30, 3, 32, 1).images)
    assert torch.equal(joined.images[0, 0], joined.images[0, 2])


def test_negatives_are_the_same_digits_dark_on_light():
    data = images.load("digits_negatives", val_images=200, image_size=8)
    for split, count in ((data.train, 2674), (data.val, 200), (data.test, 720)):
        source = split.attributes["domain"] == 0
        assert len(split) == count
        assert source.sum().item() == pytest.approx(count / 2, abs=10)
        assert split.images[source].float().mean() < 100 < 150 < split.images[~source].float().mean()
    whole = data.test
    source = whole.attributes["domain"] == 0
    expected = domains.negative(whole.images[source])
    assert torch.equal(whole.images[~source], expected)
    assert torch.equal(whole.labels[source], whole.labels[~source])


def test_samples_keep_the_shares_of_classes_in_each_domain():
    data = images.load("digits_negatives", val_images=400, train_images=500, test_images=100, image_size=8)
    for split in (data.train, data.val, data.test):
        counts = domains.strata(split).bincount(minlength=20)
        assert len(counts) == 20
        assert counts.max() - counts.min() <= 0.12 * len(split) / 10 + 2


def test_a_pair_is_there_when_both_parts_are(tmp_path, monkeypatch):
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(catalog, "DATA_SETS", {**catalog.DATA_SETS})
    with pytest.raises(CbnormError, match=r"cbnorm data fetch mnist$"):
        sources.require("mnist_usps")
    known = overview.describe("mnist_usps")
    assert known["state"] == "missing"
    assert known["problem"].endswith("cbnorm data fetch mnist")
    assert known["images"] == {"train": 67_291, "test": 12_007}
    for key in ("mnist", "usps"):
        entry = catalog.find(key)
        catalog.DATA_SETS[key] = type(entry)(**(vars(entry) | {"files": ()}))
    assert overview.describe("mnist_usps")["state"] == "ready"
    assert sources.require("mnist_usps") == tmp_path


def test_a_pair_is_known_by_the_content_of_both(monkeypatch):
    before = catalog.fingerprint("mnist_usps")
    assert len({before, *map(catalog.fingerprint, ("mnist", "usps", "mnist_svhn"))}) == 4
    entry = catalog.find("mnist_usps")
    changed = {**entry.content, "usps/t10k-labels-idx1-ubyte": "sha1:0"}
    monkeypatch.setattr(
        catalog, "DATA_SETS", {"mnist_usps": type(entry)(**(vars(entry) | {"content": changed}))}
    )
    assert catalog.fingerprint("mnist_usps") != before


@pytest.mark.real_data("mnist", "usps")
def test_real_mnist_and_usps_make_a_pair():
    try:
        sources.require("mnist_usps")
    except CbnormError as error:
        pytest.skip(f"no real pair: {error}")
    data = images.load("mnist_usps", val_images=5000, image_size=16, test_images=2000, download=False)
    domain = data.train.attributes["domain"]
    assert data.name == "MNIST to USPS"
    assert domain.bincount().tolist() == pytest.approx([60_000 * 0.9257, 7_291 * 0.9257], abs=30)
    # USPS fills its frame; MNIST leaves a border.
    edge = data.train.images[:, 0, 0].float().mean(1)
    assert edge[domain == 1].mean() > 10 * edge[domain == 0].mean()

"""FID by torchmetrics: the computation against ours, and the way of the weights."""

import importlib.util

import pytest
import torch
from torch import nn

from cbnorm.data import weights
from cbnorm.errors import CbnormError
from cbnorm.metrics import fid, frechet_distance, moments


class Means(nn.Module):
    """Means of each colour and each quarter: stands in for Inception."""

    num_features = 12

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images.double(), 2).flatten(1)


def images(n, seed, high=256):
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, (n, 3, 8, 8), generator=stream, dtype=torch.uint8)


def test_torchmetrics_and_we_compute_one_distance():
    real, one, other = images(120, 0), images(150, 1), images(130, 2, high=200)
    found = fid.Fid(real, Means())
    for samples in (one, other):
        wanted = frechet_distance(*(moments(Means()(part)) for part in (real, samples)))
        assert found(samples) == pytest.approx(wanted, rel=1e-6)


def test_without_weights_there_is_no_fid(tmp_path, monkeypatch):
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert fid.inception_weights() is None


def test_without_the_package_there_is_no_fid(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "present", lambda which: tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert fid.inception_weights() is None


@pytest.mark.parametrize("content", [{"some": torch.ones(1)}, torch.ones(2)])
def test_a_file_of_other_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(CbnormError, match="no weights of FID's Inception"):
        fid.Fid(images(2, 0), tmp_path / "weights.pth")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save(Means(), tmp_path / "weights.pth")
    with pytest.raises(CbnormError, match="holds more than weights"):
        fid.Fid(images(2, 0), tmp_path / "weights.pth")


def test_inception_reads_a_file_of_torch_fidelitys_form(tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity")
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    with torch.random.fork_rng():
        torch.manual_seed(0)
        monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        monkeypatch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    monkeypatch.undo()
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    real, samples = images(12, 0), images(10, 1, high=128)
    wanted = frechet_distance(*(moments(network(part)[0]) for part in (real, samples)))
    assert fid.Fid(real, path)(samples) == pytest.approx(wanted, rel=1e-2)

"""Images that fall into groups: a base pattern per group, plus noise."""

from pathlib import Path

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def grouped() -> tuple[Tensor, Tensor]:
    """Images uint8 (300, 3, 8, 8) and their group, int64 (300,)."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(40, 175, (3, 3, 8, 8), generator=generator)
    patterns += torch.tensor([0, 20, 40])[:, None, None, None]
    groups = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 300, replacement=True, generator=generator)
    noise = torch.randn(300, 3, 8, 8, generator=generator) * 12
    return (patterns[groups] + noise).clamp(0, 255).to(torch.uint8), groups


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own: what it fits is remembered there. The digits need no files."""
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def making() -> SimpleNamespace:
    """Records such as runs would leave: `making.py` beside this file."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("making.py"))))


@pytest.fixture(scope="session")
def making_figures() -> SimpleNamespace:
    """Blocks with histories, predictions and samples: `making_figures.py` beside this file."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("making_figures.py"))))

"""Where `conf/` and `experiments/` are: beside the package in a wheel, at the root of a checkout."""

from pathlib import Path

from cbnorm.errors import CbnormError

_PACKAGE = Path(__file__).resolve().parents[1]


def _shipped(name: str) -> Path:
    for folder in (_PACKAGE / name, _PACKAGE.parents[1] / name):
        if folder.is_dir():
            return folder
    raise CbnormError(f"the installation is incomplete: folder '{name}' is missing; install cbnorm again")


def conf_dir() -> Path:
    """Folder of the Hydra config groups."""
    return _shipped("conf")


def experiments_dir() -> Path:
    """Folder with one sub-folder per table: its rows and the paper's cells."""
    return _shipped("experiments")

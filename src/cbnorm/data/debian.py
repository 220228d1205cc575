"""Packages of Debian and its kin, fetched by the user's own apt; nothing is installed."""

import shutil
from pathlib import Path

from cbnorm.data.archives import unpack
from cbnorm.data.clients import brought
from cbnorm.data.entry import DebianPackage
from cbnorm.data.failure import SourceError

_UNPACKED_PER_PACKED = 8
_MAGIC = b"!<arch>\n"
_HEADER = 60


def fetch(package: DebianPackage, folder: Path) -> Path:
    """Fetch and unpack a package; none of its code is run.

    Its content isn't verified here: the files that are taken from it are, by checksum.

    Args:
        package: Its name.
        folder: A folder for the package and what it holds.

    Returns:
        The folder of the package's files.

    Raises:
        SourceError: There is no apt, it fails, or what it gives is no package.
    """
    client = shutil.which("apt-get")
    if client is None:
        raise SourceError("no apt-get on PATH")
    data = extract(_download(client, package, folder), folder)
    unpack(data, folder / "unpacked", limit=_UNPACKED_PER_PACKED * package.size)
    return folder / "unpacked"


def extract(package: Path, folder: Path) -> Path:
    """Take the archive of files out of a package, which is an ar archive of three members.

    Args:
        package: The ``.deb`` file.
        folder: Where the archive goes.

    Returns:
        The file ``data.tar`` with an ending that tells how it is compressed.

    Raises:
        SourceError: It is no such package.
    """
    with package.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise SourceError(f"{package.name} is no Debian package")
        while len(header := file.read(_HEADER)) == _HEADER:
            name = header[:16].decode("ascii", "replace").strip().rstrip("/")
            if header[58:] != b"`\n" or not header[48:58].strip().isdigit():
                break
            size = int(header[48:58])
            if name in {"data.tar", "data.tar.xz", "data.tar.gz", "data.tar.bz2"}:
                return _copy(file.read(size), size, folder / name)
            if name.startswith("data.tar"):
                raise SourceError(f"its files are compressed as {name}, which Python can't read")
            file.seek(size + size % 2, 1)
    raise SourceError(f"{package.name} is broken: it holds no archive of files")


def _copy(content: bytes, size: int, target: Path) -> Path:
    if len(content) != size:
        raise SourceError(f"{target.name} is cut off after {len(content)} of {size} bytes")
    target.write_bytes(content)
    return target


def _download(client: str, package: DebianPackage, folder: Path) -> Path:
    command = [client, "-q", "-o", "Acquire::Retries=1", "download", package.name]
    return brought(command, folder, "*.deb", name="apt-get", gist=_gist)


def _gist(said: list[str]) -> list[str]:
    return [line.removeprefix("E:").strip() for line in said if line.startswith("E:")]

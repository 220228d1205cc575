"""Downloads over HTTP that go on where they stopped."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cbnorm.data.entry import Archive
from cbnorm.data.failure import SourceError
from cbnorm.data.verify import checksum

# Seconds to connect, and to wait for the next bytes.
TIMEOUT = 10.0
ATTEMPTS = 4
# Seconds before the second attempt in a row, doubled for each further one.
PAUSE = 1.0
Report = Callable[[int, int], None]


def fetch(archive: Archive, part: Path, report: Report) -> Path:
    """Download an archive, continuing the part that an earlier attempt left.

    A connection that breaks off is resumed up to :data:`ATTEMPTS` times in a row without a new
    byte; a site that can't be reached at all is given up at once, since the next source may do.

    Args:
        archive: What to fetch and its checksum.
        part: The unfinished file. It stays when the download stops half-way, and is deleted when
            it is complete but wrong.
        report: Called with the bytes that are there and those expected.

    Returns:
        ``part``, complete and verified.

    Raises:
        SourceError: The site can't be reached, refuses, breaks off for good or holds other bytes.
    """
    resumed = part.exists()
    _complete(archive, part, report)
    if resumed and _wrong(archive, part):
        # What an earlier attempt left may be damaged: once more, from the beginning.
        part.unlink()
        _complete(archive, part, report)
    if wrong := _wrong(archive, part):
        part.unlink()
        raise SourceError(wrong)
    return part


def _wrong(archive: Archive, part: Path) -> str:
    if archive.sha256:
        found = checksum(part, "sha256")
        return (
            ""
            if found.startswith(archive.sha256)
            else f"its SHA-256 is {found}, which doesn't begin with {archive.sha256}"
        )
    found = checksum(part, "md5")
    return "" if found == archive.md5 else f"its MD5 is {found} instead of {archive.md5}"


def _complete(archive: Archive, part: Path, report: Report) -> None:
    failures, reached = 0, _size(part)
    while failures < ATTEMPTS:
        try:
            if _continue(archive, part, report):
                return
            reason = f"the connection broke off after {_size(part)} bytes"
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
            if _hopeless(error):
                raise SourceError(reason) from error
        failures = 0 if _size(part) > reached else failures + 1
        reached = max(reached, _size(part))
        time.sleep(PAUSE * 2 ** (failures - 1) if failures else 0)
    raise SourceError(f"{reason}; what came so far is kept and continued next time")


def _continue(archive: Archive, part: Path, report: Report) -> bool:
    """Ask for what is missing and append it; say whether the file is complete now."""
    have = _size(part)
    request = urllib.request.Request(archive.url, headers={"User-Agent": "cbnorm"})  # noqa: S310  (from the catalog)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                # Nothing lies beyond: it is complete, or too long, which the checksum tells.
                return True
        raise
    with response:
        if have and not _continues_at(response, have):
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else archive.size
        # What has come is written at once, so that neither a silent site nor a kill costs it.
        with part.open("ab" if have else "wb", buffering=0) as file:
            while block := response.read1(1 << 18):
                file.write(block)
                report(file.tell(), total)
    return length is None or _size(part) >= total


def _continues_at(response: http.client.HTTPResponse, have: int) -> bool:
    given = response.headers.get("Content-Range", "")
    return response.status == http.client.PARTIAL_CONTENT and given.startswith(f"bytes {have}-")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _hopeless(error: Exception) -> bool:
    """Say whether asking again won't help: no such site, or it refuses."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500 and error.code not in {
            http.client.REQUEST_TIMEOUT,
            http.client.TOO_MANY_REQUESTS,
        }
    return isinstance(error, urllib.error.URLError)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"can't be reached: {error.reason}"
    return str(error) or type(error).__name__

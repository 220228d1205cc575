"""Files that are whole or absent: written beside their place, then moved there."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from cbnorm.errors import CbnormError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically and durably.

    Raises:
        CbnormError: If the disk is full or the folder can't be written; what was there before stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON, atomically."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def append_line(path: Path, content: Any) -> None:
    """Append plain data as one line of JSON."""
    try:
        with path.open("a", encoding="utf8") as file:
            file.write(json.dumps(content, allow_nan=False) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        CbnormError: If the file is missing, unreadable, or not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CbnormError(f"{path} does not exist") from None
    except OSError as error:
        raise CbnormError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise CbnormError(f"{path} is damaged ({error}): move it away, then run again") from error
    if not isinstance(content, dict):
        raise CbnormError(f"{path} is damaged (not a JSON object): move it away, then run again")
    return content


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a file of JSON objects; a last line cut off by a crash is left out."""
    try:
        text = path.read_text(encoding="utf8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise CbnormError(f"cannot read {path}: {error}") from error
    whole = text[: text.rfind("\n") + 1].splitlines()
    rows = []
    for number, line in enumerate(whole, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise CbnormError(f"{path}, line {number} is damaged: move the file away, then run again")
        rows.append(row)
    return rows


def cannot_write(path: Path, error: OSError) -> CbnormError:
    """The one line for a full disk or a read-only folder."""
    reason = error.strerror or str(error)
    return CbnormError(f"cannot write {path}: {reason}; make room or choose another store, then run again")

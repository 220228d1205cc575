"""Which commit a record names."""

from pathlib import Path

import pytest

import cbnorm
from cbnorm.runs import provenance


@pytest.mark.parametrize(
    ("text", "commit"), [("0123456789abcdef\n", "0123456789ab"), ("$Format:%h$\n", None), (None, None)]
)
def test_an_archive_of_git_knows_its_commit(
    text: str | None, commit: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cbnorm, "__file__", str(tmp_path / "src" / "cbnorm" / "__init__.py"))
    if text is not None:
        (tmp_path / ".commit").write_text(text)
    assert provenance._commit.__wrapped__() == commit

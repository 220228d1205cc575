"""Which commit a record names."""

import re
import subprocess
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


def test_a_checkout_with_changed_files_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "cbnorm"
    package.mkdir(parents=True)
    file = package / "__init__.py"
    file.write_text("")
    monkeypatch.setattr(cbnorm, "__file__", str(file))
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)
    clean = provenance._commit.__wrapped__()
    file.write_text("changed = True")
    assert re.fullmatch("[0-9a-f]{12}", clean)
    assert provenance._commit.__wrapped__() == f"{clean}-dirty"

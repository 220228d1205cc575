"""The catalog answers without torch, and its fingerprints stand for content."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from cbnorm.data import catalog
from cbnorm.data.entry import Archive, Archives, Files
from cbnorm.data.fetching import CONVERTERS
from cbnorm.data.images import READERS
from cbnorm.data.opensets import LAYOUTS
from cbnorm.errors import CbnormError


def test_the_catalog_and_the_sources_import_no_torch():
    code = "import sys, cbnorm.data.catalog, cbnorm.data.sources; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_a_misspelt_name_is_answered_by_the_nearest():
    with pytest.raises(CbnormError, match=r"no data set 'cifar-10'; did you mean 'cifar10'\?"):
        catalog.find("cifar-10")
    with pytest.raises(CbnormError, match="choose one of: cifar10, cifar100"):
        catalog.find("qqq")


def test_fingerprints_do_not_change_between_versions():
    # They are part of every run's identity.
    assert {key: catalog.fingerprint(key) for key in ("cifar10", "digits")} == {
        "cifar10": "1e6e2ff35b688404",
        "digits": "fe474d643a62c451",
    }


def test_a_fingerprint_changes_with_the_content_only(monkeypatch):
    entry = catalog.find("cifar10")
    before = catalog.fingerprint("cifar10")
    monkeypatch.setattr(
        catalog, "DATA_SETS", {"cifar10": dataclasses.replace(entry, note="other", sources=())}
    )
    assert catalog.fingerprint("cifar10") == before
    changed = {**entry.content, "test_batch.bin": "sha1:0"}
    monkeypatch.setattr(catalog, "DATA_SETS", {"cifar10": dataclasses.replace(entry, content=changed)})
    assert catalog.fingerprint("cifar10") != before


@pytest.mark.parametrize("entry", catalog.DATA_SETS.values(), ids=lambda entry: entry.key)
def test_every_entry_can_be_read_and_its_sources_used(entry):
    if entry.open:
        assert entry.key in LAYOUTS
    elif entry.parts:
        assert all(part in READERS for part in entry.parts)
    else:
        assert entry.key in READERS
        assert len(set(entry.class_names)) == entry.num_classes > 1
    for source in entry.sources:
        name = getattr(source, "folder", getattr(source, "name", None))
        assert isinstance(source, Archive | Archives | Files) or name in CONVERTERS


def test_the_documentation_names_every_set_file_and_checksum():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for entry in catalog.DATA_SETS.values():
        assert f"| `{entry.key}` |" in page
        for file in entry.files:
            assert (
                f"| `{entry.folder}/{file.name}` | {file.size:,} | `{file.checksum.partition(':')[2]}` |"
                in page
            )


def test_the_documentation_of_own_images_fits_on_a_screen():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    assert len(page.split("## Your own images")[1].strip().splitlines()) <= 30

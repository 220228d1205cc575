"""What is published under results/ follows from the records beside it, byte for byte."""

import re
from pathlib import Path

import pytest

from cbnorm.report.collect import collect
from cbnorm.report.tables import write_tables
from cbnorm.runs.store import Store

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def records() -> list[dict]:
    found, damaged = Store(RESULTS / "records").survey()
    assert damaged == {}
    return found


def test_the_published_table_is_collected_from_the_published_records(
    records: list[dict], tmp_path: Path
) -> None:
    for path in write_tables(collect("table5", records, filters={}), tmp_path):
        assert path.read_bytes() == (RESULTS / "table5" / path.name).read_bytes()


def test_published_records_come_from_committed_code_and_name_no_place(records: list[dict]) -> None:
    for record in records:
        assert not record["versions"]["commit"].endswith("-dirty")
        assert record["status"] in {"done", "diverged"}
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", str(record))


def test_the_readme_shows_the_published_table() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    published = (RESULTS / "table5" / "table5.md").read_text(encoding="utf8")
    rows = [line for line in published.splitlines() if line.startswith("|")]
    assert len(rows) >= 12
    assert "\n".join(rows[:12]) in readme

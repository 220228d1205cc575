"""What is published under results/ follows from the records beside it, byte for byte."""

import re
from pathlib import Path

import pytest
from markupsafe import escape

from cbnorm.report.evidence import Evidence
from cbnorm.report.evidence_page import address
from cbnorm.report.figures.drawing import COLUMN, PAGE, Drawing, drawn
from cbnorm.report.figures.material import Material
from cbnorm.report.figures.registry import CAPTIONS, captions, figures
from cbnorm.report.page import undated, write_page
from cbnorm.report.published import pages
from cbnorm.report.readme import fill
from cbnorm.report.summary import write_all
from cbnorm.runs.identity import digest, identity
from cbnorm.runs.store import Store
from cbnorm.runs.trained import config_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def records() -> list[dict]:
    found, damaged = Store(RESULTS / "records").survey()
    assert damaged == {}
    return found


@pytest.fixture(scope="module")
def material() -> Material:
    return Material.of(Evidence([Store(RESULTS / "records")], RESULTS / "figures" / "looks"))


def test_the_published_tables_are_collected_from_the_published_records(
    tmp_path: Path, material: Material
) -> None:
    write_all(material.evidence, material.entries, tmp_path)
    made = {
        str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert {"table5/table5.md", "table5/table5-claims.csv", "left-out.csv"} <= made.keys()
    for name, content in made.items():
        assert (RESULTS / name).read_bytes() == content, f"{name}: run cbnorm publish"


def test_published_tables_are_of_records_that_are_there(records: list[dict]) -> None:
    known = {record["id"] for record in records}
    for path in (*RESULTS.glob("*/*-long.csv"), *RESULTS.glob("*/*-claims.csv")):
        ids = set(re.findall(r"\b[0-9a-f]{12}\b", path.read_text(encoding="utf8")))
        assert ids <= known, path


def test_published_records_come_from_committed_code_and_name_no_place(records: list[dict]) -> None:
    for record in records:
        assert not record["versions"]["commit"].endswith("-dirty")
        assert record["status"] in {"done", "diverged"}
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", str(record))


def test_published_runs_are_understood_by_the_configs_of_today(records: list[dict]) -> None:
    for record in records:
        config = config_of(record)
        assert digest(identity(config, record["identity"]["data"])) == record["id"]


def test_pages_and_what_they_quote_follow_from_the_published_records(material: Material) -> None:
    known = dict(pages(material, ROOT))
    assert {"claims.md", "evidence.md", "findings.md", "README.md"} <= {path.name for path in known}
    stale = [path.name for path, text in known.items() if path.read_text(encoding="utf8") != text]
    assert stale == [], "run make published"


def test_the_published_report_follows_from_the_published_records(material: Material) -> None:
    published = (RESULTS / "report.html").read_text(encoding="utf8")
    drawings = re.compile(r'<section id="figures".*?</section>', re.DOTALL)
    plain = [drawings.sub("", undated(page)) for page in (published, write_page(material, drawings=False))]
    assert plain[0] == plain[1], "run make published"
    shown = drawings.findall(published)[0]
    for one in figures(material):
        told = [one.title, one.caption, one.alt] if isinstance(one, Drawing) else [one.name, one.reason]
        assert [words for words in told if str(escape(words)) not in shown] == [], "run make published"


def test_every_published_row_has_an_address_of_its_own() -> None:
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf8")
    addresses = [address(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")]
    assert len(addresses) == len(set(addresses)) > 100


def test_the_published_figures_show_the_published_records(material: Material) -> None:
    made = [figure for figure in figures(material) if isinstance(figure, Drawing)]
    assert len(made) == len(list(figures(material))), "a figure has nothing to show"
    assert {drawing.size[0] for drawing in made} == {COLUMN, PAGE}
    stale = [figure.name for figure in made if not drawn(RESULTS / "figures", figure)]
    assert stale == [], "run make published"
    page = RESULTS / "figures" / CAPTIONS
    assert page.read_text(encoding="utf8") == captions(made), "run make published"
    files = {path.stem for path in (RESULTS / "figures").iterdir() if path.is_file() and path != page}
    assert files == {figure.name for figure in made}, "figures of runs that are gone"


def test_the_readme_s_part_follows_from_the_published_records(material: Material) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert fill(readme, material, "1999-12-31") == readme, "run make published"
    verdicts = [told for entry in material.entries for told in entry.verdicts]
    assert f"**{len({told.claim.id for told in verdicts})} claims: " in readme
    emptied = re.sub(r"(?s)(make published -->\n).*?(<!-- end)", r"\1\2", readme)
    assert len(fill(emptied, material, "1999-12-31")) == len(readme)


def test_the_page_of_table_5_names_the_chosen_form_with_its_published_numbers() -> None:
    page = (ROOT / "docs" / "table5.md").read_text(encoding="utf8")
    with (RESULTS / "ucb_forms" / "ucb_forms.md").open(encoding="utf8") as file:
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in file if line.startswith("|")]
    validation = {line[0]: line[-2] for line in lines if len(line) == 9}
    assert validation["printed"] in page
    (chosen,) = (line for line in lines if line[:2] == ["form of UCB-Norm", "running"])
    lead = chosen[4].partition(" ")[0]
    assert f"by {lead} points" in page

"""The page of all evidence: valid, whole, and true to the records."""

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlparse

import pytest

from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.material import Material
from cbnorm.report.page import write_page
from cbnorm.runs.store import Store

#: Elements of HTML that have no end tag.
VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


class Reader(HTMLParser):
    """Checks that elements nest, and gathers ids, links, texts by element, and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.attributes.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open or tag in VOID, f"<{tag}/> is no element of HTML"
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> was never opened"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data.strip()))


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def page_of(store: Path, tmp_path: Path) -> str:
    return write_page(Material.of(Evidence([Store(store)], tmp_path / "looks")), date="2026-01-02")


@pytest.fixture(scope="module")
def page(making: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> str:
    values = {"BN-1": [70.0, 70.5, 71.0, 70.2, 70.8], "SCB-Norm-1": [75.0, 75.5, 76.0, 75.2, 75.8]}
    root = making.write(tmp_path_factory.mktemp("store"), making.table(values))
    return page_of(root, root)


def test_it_is_well_formed_with_ids_that_are_unique(page: str) -> None:
    reader = read(page)
    assert page.startswith("<!DOCTYPE html>")
    assert len(reader.ids) == len(set(reader.ids))
    assert {"verdicts", "figures", "tables", "missing", "repeat"} <= set(reader.ids)


def test_verdicts_come_first(page: str) -> None:
    assert re.findall(r'<section id="(\w+)"', page) == ["verdicts", "figures", "tables", "missing", "repeat"]


def test_every_link_inside_leads_somewhere_and_nothing_is_fetched(page: str) -> None:
    reader = read(page)
    for tag, attributes in reader.attributes:
        for name in ("href", "src", "srcset", "action"):
            target = attributes.get(name) or ""
            assert urlparse(target).scheme in {"", "data"}, f"{tag} {name}={target}"
            assert not target.startswith("#") or target[1:] in reader.ids, target
    assert "@import" not in page
    assert set(re.findall(r"url\((#[^)]+)\)", page)) <= {f"#{name}" for name in reader.ids}


def test_numbers_carry_their_origin_and_can_be_reached_by_keyboard(page: str) -> None:
    found = [attributes for _, attributes in read(page).attributes if attributes.get("class") == "value"]
    assert len(found) >= 2 * 5
    assert all(attributes.get("tabindex") == "0" for attributes in found)
    origins = re.findall(r'role="tooltip">(.*?)</span></span>', page)
    assert all(len(re.findall(r"run [0-9a-f]{12}", origin)) == 5 for origin in origins)
    assert "70.50 ± 0.41" in page  # of 70.0, 70.5, 71.0, 70.2, 70.8


def test_a_verdict_is_told_with_its_budget_and_its_interval(page: str) -> None:
    line = re.search(r"<code>c10-scb-1-bn</code>.*?</tr>", page, re.DOTALL)
    assert line
    assert "supported at budget small only" in line[0]
    assert "+5.00 (+" in line[0]
    assert "No verdict rests on runs at the paper" in page


def test_what_was_not_run_and_how_to_repeat_a_row_are_told(page: str) -> None:
    texts = [text for _, text in read(page).texts]
    assert any("nothing at the paper's full budget" in text for text in texts)
    row = "cbnorm reproduce table5 dataset=cifar10 protocol=sound budget=small rows=SCB-Norm-1 seeds=0..4"
    assert row in page


def test_it_follows_the_reader_s_ground_and_width(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert '<meta name="viewport" content="width=device-width' in page
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert drawn
    assert all("currentColor" in svg and "<rdf" not in svg for svg in drawn)


def test_without_runs_there_is_a_page_that_says_so(tmp_path: Path) -> None:
    made = page_of(tmp_path, tmp_path)
    read(made)
    assert "No record fills a cell yet" in made
    assert "from 0 runs" in made


def test_words_of_records_are_text_and_never_markup(making: SimpleNamespace, tmp_path: Path) -> None:
    records = making.table({"BN-1": [70.0]}, status="done")
    records[0]["hardware"] = {"cpu": "<script>alert(1)</script>"}
    made = page_of(making.write(tmp_path / "store", records), tmp_path)
    read(made)
    assert "<script>alert" not in made
    assert "&lt;script&gt;alert" in made


def test_the_same_records_give_the_same_page(making: SimpleNamespace, tmp_path: Path) -> None:
    root = making.write(tmp_path / "store", making.table({"BN-1": [70.0], "SCB-Norm-1": [71.0]}))
    assert page_of(root, tmp_path) == page_of(root, tmp_path)

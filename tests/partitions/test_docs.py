"""The page on partitions says what was measured, and names what there is."""

import csv
import re
from pathlib import Path

from cbnorm.config.compose import groups

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "partitions.md").read_text(encoding="utf8")


def test_the_table_is_the_published_one() -> None:
    with (ROOT / "results" / "partitions" / "knowledge.csv").open(encoding="utf8") as file:
        measured = {
            (row["dataset"], row["partition"], row["clusters"], row["features"]): row["nmi_test"]
            for row in csv.DictReader(file)
        }
    head = next(line for line in PAGE.splitlines() if line.startswith("| NMI with the class"))
    features = [cell.strip() for cell in head.split("|")[3:-1]]
    found = {}
    for data, method, k, cells in re.findall(
        r"^\| CIFAR-(\d+), `(\w+)` \| (\d+) \| (.*) \|$", PAGE, re.MULTILINE
    ):
        names = features if method in {"kmeans", "gmm"} else [""]
        for name, cell in zip(names, cells.split(" | "), strict=False):
            found[f"cifar{data}", method, k, name] = cell
    assert found == measured


def test_every_choice_is_explained_and_every_link_leads_somewhere() -> None:
    for name in set(groups()["partition"]) - {"none"}:
        assert f"`{name}`" in PAGE
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link


def test_contact_sheets_are_small() -> None:
    sheets = sorted((ROOT / "results" / "partitions").glob("*.png"))
    assert [path.name for path in sheets] == [
        f"{data}-kmeans-{k}.png" for data in ("cifar10", "cifar100") for k in (3, 5)
    ]
    assert all(path.stat().st_size <= 300_000 for path in sheets)

"""Numbers quoted in pages: what their links name, and what is said of links that name nothing."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cbnorm.errors import CbnormError
from cbnorm.report.comparison import Pairing
from cbnorm.report.evidence import Evidence
from cbnorm.report.evidence_page import page
from cbnorm.report.quotes import Quotes
from cbnorm.report.summary import Collected, everything
from cbnorm.report.verdicts import Verdict
from cbnorm.runs.store import Store

BN = "evidence.md#table5-cifar-10-small-sound-bn-1"


@pytest.fixture(scope="module")
def entries(making: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> list[Collected]:
    records = making.table({"BN-1": [70.0, 72.0, 71.0], "SCB-Norm-1": [75.0, 76.0, 77.0]}, "budget=small")
    return list(everything(Evidence([Store(making.write(tmp_path_factory.mktemp("store"), records))]), {}))


def test_a_quote_is_filled_in_from_the_records(entries: list[Collected]) -> None:
    quotes = Quotes.of(entries)
    assert quotes.fill(f"BN has [?]({BN}) there.", "x.md") == f"BN has [71.00 ± 1.00]({BN}) there."
    assert quotes.fill(f"[1.00 ± 9](../{BN})", "x.md") == f"[71.00 ± 1.00](../{BN})"


def test_a_title_asks_for_another_number_of_the_row(entries: list[Collected]) -> None:
    quotes = Quotes.of(entries)
    assert quotes.fill(f'[]({BN} "last")', "x.md") == f'[70.00 ± 1.00]({BN} "last")'
    assert quotes.fill(f'[]({BN} "25 %")', "x.md") == f'[70.25 ± 1.00]({BN} "25 %")'
    assert quotes.fill(f'[]({BN} "last, 25 %, accuracy")', "x.md").startswith("[70.00 ± 1.00]")


def test_a_title_asks_for_some_of_the_seeds(entries: list[Collected]) -> None:
    quotes = Quotes.of(entries)
    assert quotes.fill(f'[]({BN} "seed 1")', "x.md") == f'[72.00]({BN} "seed 1")'
    assert quotes.fill(f'[]({BN} "last, seeds 0..1")', "x.md").startswith("[70.00 ± 1.41]")


def test_a_difference_is_quoted_by_its_claim(entries: list[Collected]) -> None:
    link = '(claims.md#table5 "c10-scb-1-bn small sound")'
    assert Quotes.of(entries).fill(f"[]{link}", "x.md") == f"[+5.00 (+2.73 to +7.27)]{link}"


@pytest.mark.parametrize(("difference", "shown"), [(1.2, "0.049"), (-1.2, "0.951")])
def test_a_p_value_is_that_of_the_side_where_the_difference_lies(difference: float, shown: str) -> None:
    told = Verdict(SimpleNamespace(id="x"), difference=difference, supports=0.0491, refutes=0.9512)
    quotes = Quotes({}, {"x small sound": told})
    link = '(claims.md#table5 "x small sound, p")'
    assert quotes.fill(f"[]{link}", "x.md") == f"[{shown}]{link}"


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [("p in pairs", "0.0012"), ("p without pairs", "0.0849"), ("others", "14"), ("correlation", "0.42")],
)
def test_what_decided_about_pairs_is_quoted_with_both_ways(wanted: str, shown: str) -> None:
    pairing = Pairing(14, 0.419, 0.306, paired=(0.0012, 0.9), apart=(0.0849, 0.8))
    told = Verdict(SimpleNamespace(id="x"), difference=1.2, supports=0.02, refutes=1.0, pairing=pairing)
    link = f'(claims.md#table5 "x small sound, {wanted}")'
    assert Quotes({}, {"x small sound": told}).fill(f"[]{link}", "x.md") == f"[{shown}]{link}"


def test_a_claim_of_cost_is_quoted_by_its_times() -> None:
    told = Verdict(SimpleNamespace(id="cost-ucb"), times=(9.02, 9.79))
    quotes = Quotes({}, {"cost-ucb": told})
    assert quotes.fill('[](claims.md#cost "cost-ucb")', "x.md") == '[9.02 to 9.79](claims.md#cost "cost-ucb")'


def test_other_links_stay_as_they_are(entries: list[Collected]) -> None:
    text = "[claims](claims.md), [Table V's](claims.md#table5), [all](evidence.md), [x](y.md#z)"
    assert Quotes.of(entries).fill(text, "x.md") == text


@pytest.mark.parametrize(
    "link",
    [
        "evidence.md#table5-cifar-10-small-sound-bn-9",
        f'{BN} "lost"',
        f'{BN} "30 %"',
        f'{BN} "top9"',
        f'{BN} "seed 3"',
        f'{BN} "seed 0, seed 1"',
        'claims.md#table5 "c10-scb-1-bn full sound"',
        'claims.md#table5 "c10-scb-1-bn small sound, q"',
        'claims.md#table5 "c10-scb-1-bn small sound, p without pairs"',
        'claims.md#cost "cost-zero, p"',
    ],
)
def test_a_quote_of_nothing_is_refused_by_name(entries: list[Collected], link: str) -> None:
    with pytest.raises(CbnormError, match=r"x\.md quotes .*there is no such number"):
        Quotes.of(entries).fill(f"[1.00]({link})", "x.md")


def test_the_page_has_every_seed_with_its_record(entries: list[Collected]) -> None:
    text = page(entries)
    assert "### table5, CIFAR-10, small, sound, BN-1\n\n**71.00 ± 1.00** (n = 3): seed 0 [70.00](" in text
    assert text.count("/record.json)") == 6
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert len(titles) == len(set(titles))


def test_without_records_there_is_a_page_and_nothing_to_quote(tmp_path: Path) -> None:
    nothing = list(everything(Evidence([Store(tmp_path)]), {}))
    assert page(nothing).startswith("# Evidence")
    assert Quotes.of(nothing).rows == {}

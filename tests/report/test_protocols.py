"""Every protocol says something about every detail for every method it concerns; so does the page."""

from pathlib import Path

import pytest

from cbnorm.config.canonical import canonical, differences
from cbnorm.config.compose import groups
from cbnorm.report.protocols import (
    DCGAN,
    DENSENET,
    PROTOCOLS,
    TABLE5,
    TABLE6,
    TABLE7,
    TABLE8,
    Detail,
    Part,
    cell,
    read_details,
    setting,
)
from cbnorm.report.protocols_page import multiplications, page, parameters

PARTS = (TABLE5, TABLE6, TABLE7, TABLE8, DENSENET, DCGAN)
DETAILS = [(part, detail) for part in PARTS for detail in read_details(part.experiment)]


@pytest.mark.parametrize(("part", "detail"), DETAILS, ids=lambda what: getattr(what, "name", ""))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_cell_is_undefined(part: Part, detail: Detail, protocol: str) -> None:
    assert detail.paper
    assert detail.released
    found = {method: setting(detail, protocol, method, part.datasets[0], part) for method in part.methods}
    assert any(found.values())
    # Only options of layers and ids may concern some methods and not others.
    if not all(key.startswith(("norm.", "partition.")) for key in detail.keys) or not detail.keys:
        assert all(found.values())
    assert cell(detail, protocol, part)


def test_a_key_that_is_no_option_is_an_error() -> None:
    with pytest.raises(KeyError):
        setting(Detail("typo", ("model.haed",), "", "", ""), "sound", "bn", "cifar10")


def test_all_protocols_are_documented() -> None:
    assert sorted(PROTOCOLS) == groups()["protocol"]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.experiment)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_option_that_a_protocol_sets_is_a_detail(protocol: str, part: Part) -> None:
    known = {key for detail in read_details(part.experiment) for key in detail.keys}
    for method in part.methods:
        for dataset in part.datasets:
            # What the run does not read makes no difference to it.
            own, sound = (canonical(part.compose(name, method, dataset)) for name in (protocol, "sound"))
            assert set(differences(own, sound)) <= known


def test_sizes_are_those_of_table_iv_and_of_the_authors_code() -> None:
    assert parameters("sound", "bn", "cifar10") == 918_410
    assert parameters("released", "bn", "cifar100") / 1e6 == pytest.approx(2.36, abs=0.005)
    assert multiplications("paper") / 1e6 == pytest.approx(88, abs=1)
    assert multiplications("released") / 1e6 == pytest.approx(489, abs=1)


def test_the_page_is_made_from_the_configs() -> None:
    path = Path(__file__).parents[2] / "docs" / "protocols.md"
    assert path.read_text(encoding="utf8") == page(), "run make docs-protocols"

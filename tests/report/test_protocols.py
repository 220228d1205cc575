"""Every protocol says something about every detail for every method it concerns; so does the page."""

from pathlib import Path

import pytest

from cbnorm.config.canonical import flatten
from cbnorm.config.compose import compose_run, groups
from cbnorm.report.protocols import (
    DATA_SETS,
    METHODS,
    PROTOCOLS,
    Detail,
    cell,
    multiplications,
    page,
    parameters,
    read_details,
    setting,
)

DETAILS = read_details()


@pytest.mark.parametrize("detail", DETAILS, ids=lambda detail: detail.name)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_cell_is_undefined(detail: Detail, protocol: str) -> None:
    assert detail.paper
    assert detail.released
    found = {method: setting(detail, protocol, method, "cifar10") for method in METHODS}
    assert any(found.values())
    # Only options of layers and ids may concern some methods and not others.
    if not all(key.startswith(("norm.", "partition.")) for key in detail.keys) or not detail.keys:
        assert all(found.values())
    assert cell(detail, protocol)


def test_a_key_that_is_no_option_is_an_error() -> None:
    with pytest.raises(KeyError):
        setting(Detail("typo", ("model.haed",), "", "", ""), "sound", "bn", "cifar10")


def test_all_protocols_are_documented() -> None:
    assert sorted(PROTOCOLS) == groups()["protocol"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_option_that_a_protocol_sets_is_a_detail(protocol: str) -> None:
    known = {key for detail in DETAILS for key in detail.keys}
    for method in METHODS:
        for dataset in DATA_SETS:
            words = [f"norm={method}", f"dataset={dataset}", "budget=full"]
            own = flatten(compose_run([*words, f"protocol={protocol}"]).model_dump(exclude={"presets"}))
            sound = flatten(compose_run(words).model_dump(exclude={"presets"}))
            assert {key for key in own if own[key] != sound[key]} - known <= {"protocol"}


def test_sizes_are_those_of_table_iv_and_of_the_authors_code() -> None:
    assert parameters("sound", "bn", "cifar10") == 918_410
    assert parameters("released", "bn", "cifar100") / 1e6 == pytest.approx(2.36, abs=0.005)
    assert multiplications("paper") / 1e6 == pytest.approx(88, abs=1)
    assert multiplications("released") / 1e6 == pytest.approx(489, abs=1)


def test_the_page_is_made_from_the_configs() -> None:
    path = Path(__file__).parents[2] / "docs" / "protocols.md"
    assert path.read_text(encoding="utf8") == page(), "run make docs-protocols"

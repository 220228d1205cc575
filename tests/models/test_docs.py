"""Every figure in the table of docs/models.md, counted anew."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import cbnorm.models

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
ROW = re.compile(r"^\| `(.+?)` \| ([\d,]+) \| ([\d,.]+) M \| ([\dx]+) \| (none|\d+–\d+) \|", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text(encoding="utf8"))


def batch_norm(features: int) -> nn.Module:
    return nn.BatchNorm2d(features)


def made(call: str, **options) -> nn.Module:
    with torch.device("meta"):
        return eval(call, vars(cbnorm.models) | {"norm": batch_norm} | options)


def test_the_table_has_every_network() -> None:
    named = {call.split("(")[0] for call, *_ in ROWS}
    classes = {model.__name__ for model in cbnorm.models.MODELS.values()}
    assert named == classes | {"Generator", "Discriminator"}
    assert len(ROWS) == 13


@pytest.mark.parametrize(("call", "parameters", "millions", "size", "places"), ROWS, ids=[r[0] for r in ROWS])
def test_parameters_and_multiply_adds(
    call: str, parameters: str, millions: str, size: str, places: str
) -> None:
    model = made(call).eval()
    assert sum(p.numel() for p in model.parameters()) == int(parameters.replace(",", ""))
    image = torch.empty(1, *map(int, size.split("x")), device="meta")
    with FlopCounterMode(display=False) as counter:
        model(image)
    assert f"{counter.get_total_flops() / 2e6:,.1f}" == millions


@pytest.mark.parametrize("row", [row for row in ROWS if row[4] != "none" and "Shallow" not in row[0]])
def test_places(row: tuple[str, ...]) -> None:
    first, last = map(int, row[4].split("–"))
    call = row[0].replace("[]", "places")
    made(call, places=range(first, last + 1))
    for outside in {first - 1, last + 1}:
        with pytest.raises(ValueError, match=f"they are {first} to {last}"):
            made(call, places=[outside])

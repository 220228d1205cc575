"""Ids that are given: attributes, the class, files."""

from pathlib import Path

import pytest
import torch

from cbnorm.data.splits import Split
from cbnorm.errors import CbnormError
from cbnorm.partitions import assign
from cbnorm.partitions.given import attribute_ids, file_ids, follows_from, write_ids

OFFICIAL = {"train": 6, "test": 3}
COMPLETE = "".join(f"train,{i},{i % 2}\n" for i in range(6)) + "".join(f"test,{i},1\n" for i in range(3))
HEAD = "split,index,cluster\n"


def split(indices: list[int], labels: list[int], **attributes: list[int]) -> Split:
    return Split(
        torch.zeros(len(indices), 3, 4, 4, dtype=torch.uint8),
        torch.tensor(labels),
        torch.tensor(indices),
        {name: torch.tensor(ids) for name, ids in attributes.items()},
    )


@pytest.fixture
def splits() -> dict[str, Split]:
    return {
        "train": split([1, 3, 4, 5], [0, 1, 2, 2], group=[0, 0, 1, 1], shade=[0, 1, 1, 0]),
        "val": split([0, 2], [2, 1], group=[1, 0], shade=[2, 0]),
        "test": split([0, 1, 2], [0, 1, 2], group=[0, 0, 1], shade=[1, 0, 1]),
    }


def given(name: str, splits: dict[str, Split], **options: object):
    defaults = {"test": "predict", "clusters": None, "attribute": None, "file": None}
    return assign(defaults | {"name": name} | options, splits, seed=0, num_classes=3, official=OFFICIAL)


def test_an_attribute_gives_ids_in_the_order_of_the_images(splits) -> None:
    found = given("attribute", splits, attribute="shade")
    assert {key: ids.tolist() for key, ids in found.ids.items()} == {
        "train": [0, 1, 1, 0],
        "val": [2, 0],
        "test": [1, 0, 1],
    }
    assert found.num_clusters == 3
    assert found.summary()["method"] == "shade"


def test_withheld_ids_are_unknown_in_every_split_and_tell_nothing(splits) -> None:
    found = given("attribute", splits, attribute="group", withheld=True)
    assert {key: ids.tolist() for key, ids in found.ids.items()} == {
        "train": [-1] * 4,
        "val": [-1] * 2,
        "test": [-1] * 3,
    }
    assert (found.num_clusters, found.oracle, found.summary()["withheld"]) == (2, False, True)


def test_ids_that_follow_from_labels_are_marked(splits) -> None:
    """A group of classes leaks as the class does; an attribute of single images does not."""
    marks = {name: given("attribute", splits, attribute=name).oracle for name in ("group", "shade")}
    assert marks == {"group": True, "shade": False}
    label = given("label", splits)
    assert label.oracle
    assert label.summary()["oracle"] is True
    assert label.num_clusters == 3
    assert label.ids["test"].tolist() == [0, 1, 2]
    assert not follows_from(torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 2]))


def test_missing_attributes_are_refused(splits) -> None:
    with pytest.raises(CbnormError, match="no attribute 'superclass'; choose from group, shade"):
        given("superclass", splits)
    splits["val"].attributes["shade"][0] = -1
    with pytest.raises(CbnormError, match="1 val images have no shade"):
        attribute_ids("shade", splits)


def test_a_file_is_read_by_official_place(splits, tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(
        "cluster,split,index\n"
        + "".join(f"{i % 3},train,{i}\n" for i in range(6))
        + "2,test,0\n\n0,test,1\n1,test,2\n"
    )
    found = given("file", splits, file=str(path), clusters=3)
    assert found.ids["train"].tolist() == [1, 0, 1, 2]
    assert found.ids["val"].tolist() == [0, 2]
    assert found.ids["test"].tolist() == [2, 0, 1]
    assert found.num_clusters == 3
    assert len(found.summary()["content"]) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns"),
        ("split,index\n", "must have the columns split, index, cluster"),
        (HEAD + "train,1,0\n", "no cluster for 3 of 4 train images: the first is train image 3"),
        (
            HEAD + COMPLETE.replace("test,1,1\n", ""),
            "no cluster for 1 of 3 test images: the first is test image 1",
        ),
        (HEAD + COMPLETE + "train,6,0\n", r"line 11: index must lie between 0 and 5, not '6'"),
        (HEAD + COMPLETE + "train,-1,0\n", "index must lie between"),
        (HEAD + COMPLETE + "val,0,0\n", "split must be train or test, not 'val'"),
        (HEAD + "train,0,2\n", r"line 2: cluster must lie between 0 and 1, not '2' \(partition.clusters=2\)"),
        (HEAD + "train,0,1.5\n", "cluster must lie"),
        (HEAD + "train,0\n", "cluster must lie"),
        (HEAD + "train,0,1\ntrain,0,1\n", "line 3: train image 0 is there twice"),
        (HEAD + 'train,0,"1\n', "can't be read as CSV"),
    ],
)
def test_bad_files_are_refused_in_one_line(splits, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(text)
    with pytest.raises(CbnormError, match=message) as caught:
        file_ids(path, splits, 2, OFFICIAL)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_refused(splits, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_bytes(b"split,index,cluster\n\xff\xfe\n")
    with pytest.raises(CbnormError, match="can't be read as CSV"):
        file_ids(tmp_path / "ids.csv", splits, 2, OFFICIAL)


def test_what_is_written_is_read_back(splits, tmp_path: Path) -> None:
    ids = {key: torch.arange(len(part)) for key, part in splits.items()}
    path = tmp_path / "new" / "ids.csv"
    write_ids(path, ids, splits)
    back = file_ids(path, splits, 4, OFFICIAL)
    assert all(torch.equal(back[key], ids[key]) for key in ids)
    with pytest.raises(CbnormError, match="cannot write"):
        write_ids(path / "ids.csv", ids, splits)

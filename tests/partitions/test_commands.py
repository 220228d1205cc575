"""`cbnorm partitions`: what it prints, writes and refuses."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from cbnorm.cli import main

SMALL = ["budget=smoke", "dataset.train_images=150", "dataset.val_images=30", "dataset.test_images=60"]


def answer(capsys, *words: str) -> str:
    assert main(["partitions", *words[:1], *SMALL, *words[1:]]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("own_data")
def test_fit_tells_sizes_and_writes_ids(tmp_path: Path, capsys) -> None:
    out = answer(capsys, "fit", "partition=gmm", f"out={tmp_path}/ids.csv")
    assert "gmm, 3 clusters of pca64 (64 dimensions)" in out
    assert "mean log likelihood" in out
    with (tmp_path / "ids.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 240
    train = [line for line in out.splitlines() if line.startswith("  train ")]
    assert sum(row["split"] == "test" for row in rows) == 60
    sizes = [int(part.split()[0]) for part in train[0].partition(": ")[2].split("%)") if part.strip()]
    assert sum(sizes) == 150


@pytest.mark.usefixtures("own_data")
def test_what_was_fitted_is_written_as_a_file_of_the_same_ids(tmp_path: Path, capsys) -> None:
    answer(capsys, "fit", "partition=kmeans", f"out={tmp_path}/ids.csv")
    out = answer(capsys, "compare", "partition=kmeans", f"against={tmp_path}/ids.csv")
    assert [line.split() for line in out.splitlines() if line.endswith("1.0000")] == [
        ["train", "1.0000"],
        ["val", "1.0000"],
        ["test", "1.0000"],
    ]
    again = answer(capsys, "fit", "partition=file", f"partition.file={tmp_path}/ids.csv")
    assert "file, 3 clusters" in again


@pytest.mark.usefixtures("own_data")
def test_show_tells_what_ids_know_and_draws_a_sheet(tmp_path: Path, capsys) -> None:
    out = answer(capsys, "show", "partition=label", f"out={tmp_path}/a/sheet.png")
    assert "oracle: ids follow from the labels" in out
    assert "  test   1.0000" in out
    assert "silhouette of 150 training images in pca64" in out
    with Image.open(tmp_path / "a" / "sheet.png") as sheet:
        assert sheet.width > 300
    out = answer(capsys, "show", "partition=random")
    assert "  train  0.0" in out
    assert "silhouette" in out


@pytest.mark.usefixtures("own_data")
def test_compare_shows_how_clusters_overlap(capsys) -> None:
    out = answer(capsys, "compare", "partition=kmeans,gmm", "partition.clusters=2")
    table = [line.split() for line in out.splitlines()[-3:]]
    assert table[0] == ["0", "1"]
    assert sum(int(count) for row in table[1:] for count in row[1:]) == 150


@pytest.mark.usefixtures("own_data")
def test_transductive_ids_are_told(capsys) -> None:
    out = answer(capsys, "fit", "partition=kmeans", "partition.test=refit")
    assert "transductive: ids of test images come from a fit of their own" in out


@pytest.mark.parametrize("action", ["fit", "show"])
@pytest.mark.usefixtures("own_data")
def test_withheld_ids_are_counted(action: str, capsys) -> None:
    out = answer(capsys, action, "partition=kmeans", "partition.withheld=true")
    assert "  train     150 images, 150 withheld: 0 (0.0 %)  0 (0.0 %)  0 (0.0 %)\n" in out
    assert "silhouette" not in out


@pytest.mark.usefixtures("own_data")
def test_the_file_may_be_named_as_an_option(tmp_path: Path, capsys) -> None:
    assert f"Written: {tmp_path}/a.csv" in answer(
        capsys, "fit", "--out", f"{tmp_path}/a.csv", "partition=random"
    )


WITHHELD = [*SMALL, "partition=kmeans", "partition.withheld=true"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", *WITHHELD, "out=ids.csv"], "partition.withheld=true leaves no ids to write"),
        (["show", *WITHHELD, "out=sheet.png"], "partition.withheld=true leaves no ids to write"),
        (["compare", *WITHHELD, "against=ids.csv"], "partition.withheld=true leaves no ids to write"),
        (["fit", "partition=gmm", "--ot=ids.csv"], "did you mean 'out'?"),
        ([], "write cbnorm partitions fit | show | compare"),
        (["list"], "write cbnorm partitions fit | show | compare"),
        (["fit"], "which partition?"),
        (["fit", "partition=gm"], "did you mean 'gmm'?"),
        (["fit", "partition=gmm,kmeans"], "that makes 2 partitions, not 1"),
        (["compare", "partition=gmm"], "that makes 1 partitions, not 2"),
        (["show", *SMALL, "partition=kmeans", "out=sheet.jpg"], "must end in .png"),
        (["fit", *SMALL, "partition=kmeans", "out="], "out= must name one file"),
        (["fit", *SMALL, "partition=kmeans", "partition.clusters=151"], "clusters must lie between 1 and"),
        (["fit", *SMALL, "partition=kmeans", "out=~no-such-user/ids.csv"], "no such user"),
        (
            ["fit", *SMALL, "partition=attribute", "partition.attribute=mood"],
            "partition.attribute=mood: the images",
        ),
        (["compare", *SMALL, "partition=kmeans", "against=/nowhere.csv"], "can't be read"),
        (["compare", *SMALL, "partition=kmeans", "dataset.split_seed=0,1"], "same images"),
        (
            ["fit", *SMALL, "partition=kmeans", "out=/proc/nowhere/ids.csv"],
            "cannot write /proc/nowhere/ids.csv",
        ),
    ],
)
@pytest.mark.usefixtures("own_data")
def test_mistakes_are_answered_in_one_line(words: list[str], message: str, capsys) -> None:
    assert main(["partitions", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1

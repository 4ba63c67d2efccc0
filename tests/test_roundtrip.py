"""A saved model in a fresh process: found the same, found different, or not to be opened."""

import keras
import numpy as np
import pytest

from keras_surrogate.layers import SurrogateActivation
from keras_surrogate.testing import roundtrip

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


def make_model(activation):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6),
            SurrogateActivation(activation),
            keras.layers.Dense(3),
        ]
    )


def saved(model, folder, form):
    path = folder / form
    if form.endswith(".keras"):
        model.save(path)
    else:
        model.export(path, verbose=False)
    return path


@pytest.mark.parametrize(
    "form", ["savedmodel", pytest.param("model.keras", marks=pytest.mark.slow)]
)
def test_the_same_gradient_is_found_the_same(form, tmp_path):
    path = saved(make_model("sugar_bsilu"), tmp_path, form)
    assert not roundtrip.difference(make_model("sugar_bsilu"), path, X)


@pytest.mark.parametrize(
    "form", ["model.keras", pytest.param("savedmodel", marks=pytest.mark.slow)]
)
def test_a_different_gradient_is_found_different(form, tmp_path):
    path = saved(make_model("sugar_bsilu"), tmp_path, form)
    other = roundtrip.difference(make_model("artificial_relu"), path, X)
    assert other
    assert other.output < 1e-6 < 1e-2 < other.gradient


def test_a_missing_file_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match=r"no saved model at .*missing\.keras"):
        roundtrip.difference(make_model("relu"), tmp_path / "missing.keras", X)


def test_a_damaged_file_is_a_value_error(tmp_path):
    model = make_model("relu")
    path = saved(model, tmp_path, "model.keras")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.keras cannot be opened in a fresh process"):
        roundtrip.difference(model, path, X)

"""Constraints of latent weights."""

import keras
import numpy as np
import pytest

import keras_surrogate as ks


def test_weights_are_clipped_after_an_update():
    layer = keras.layers.Dense(2, kernel_constraint=ks.constraints.WeightClip(0.5))
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(10.0), "mse")
    model.fit(np.ones((4, 3)), np.full((4, 2), 9.0), verbose=0)
    np.testing.assert_array_equal(layer.kernel, np.full((3, 2), 0.5))
    assert (layer.bias.numpy() > 1).all()


def test_clipping_against_numpy():
    w = np.array([-3.0, -1.0, -0.2, 0.0, 1.0, 1.5], "float32")
    np.testing.assert_array_equal(ks.constraints.WeightClip()(w), np.clip(w, -1, 1))
    np.testing.assert_array_equal(ks.constraints.WeightClip(0.1)(w), np.clip(w, -0.1, 0.1))


def test_it_is_saved(tmp_path):
    layer = keras.layers.Dense(2, kernel_constraint=ks.constraints.WeightClip(0.5))
    keras.Sequential([keras.Input((3,)), layer]).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1].kernel_constraint
    assert isinstance(loaded, ks.constraints.WeightClip)
    assert loaded.get_config() == {"limit": 0.5}


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf"), "1", None, True])
def test_mistakes_are_explained(limit):
    with pytest.raises(ValueError, match=r"WeightClip: limit must be .*positive"):
        ks.constraints.WeightClip(limit)

"""Models saved by every past format generation load, and have the outputs and gradients that they had."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

# keras_surrogate is imported only where it is needed: a process that cannot import it imports this
# file too.

SAVEDMODELS = Path(__file__).parents[1] / "savedmodels"
GENERATIONS = sorted(SAVEDMODELS.glob("generation_*/"))
GOLDEN = sorted(SAVEDMODELS.glob("generation_*/*.npz"))

every_generation = pytest.mark.parametrize("generation", GENERATIONS, ids=lambda path: path.name)
every_golden = pytest.mark.parametrize(
    "path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


def read(path):
    with np.load(path) as arrays:
        return dict(arrays)


def derivatives(model, x, upstream):
    tf.config.experimental.enable_tensor_float_32_execution(
        False
    )  # with it a GPU keeps three digits of a product
    x = tf.constant(x)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            outputs = model(x)
        gradient = inner.gradient(outputs, x, upstream)
        squares = tf.reduce_sum(gradient**2)
    return {"outputs": outputs, "gradient": gradient, "second_gradient": outer.gradient(squares, x)}


def assert_agrees(model, golden):
    for name, got in derivatives(model, golden["x"], golden["upstream"]).items():
        tolerance = 1e-5 * max(1, np.max(np.abs(golden[name])))
        np.testing.assert_allclose(got, golden[name], rtol=1e-5, atol=tolerance, err_msg=name)


def assert_saved_model_agrees(path):
    loaded = tf.saved_model.load(
        path.with_suffix("")
    )  # serve alone would not keep the variables alive
    assert_agrees(loaded.serve, read(path))


def load_keras(path):
    import keras_surrogate  # noqa: F401  (Keras then knows its classes)

    return keras.saving.load_model(path.with_suffix(".keras"))


def make(folder):
    runpy.run_path(str(SAVEDMODELS / "make.py"))["make"](folder)


def test_the_first_generation_is_found():
    assert SAVEDMODELS / "generation_1" in GENERATIONS


@every_generation
def test_each_generation_is_complete(generation):
    presets = set(json.loads((generation / "presets.json").read_text()))
    assert presets == {path.stem for path in generation.glob("*.npz")}
    assert presets == {path.stem for path in generation.glob("*.keras")}
    assert presets == {path.parent.name for path in generation.glob("*/saved_model.pb")}


@every_golden
def test_keras_file(path):
    assert_agrees(load_keras(path), read(path))


@every_golden
def test_saved_model(path):
    assert_saved_model_agrees(path)


@every_generation
def test_saved_models_where_the_package_cannot_be_imported(generation):
    script = """
import sys
sys.modules["keras_surrogate"] = None
sys.path.insert(0, sys.argv[1])
import test_savedmodels
for path in test_savedmodels.GOLDEN:
    if path.parent.name == sys.argv[2]:
        test_savedmodels.assert_saved_model_agrees(path)
        print(path.stem)
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parent), generation.name]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert set(finished.stdout.split()) == {path.stem for path in generation.glob("*.npz")}


@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_new_generation_has_every_preset_and_agrees(each, tmp_path, monkeypatch):
    from keras_surrogate import presets

    some = presets.names()[::each]
    monkeypatch.setattr(presets, "names", lambda: some)
    make(tmp_path / "generation")
    made = sorted(tmp_path.glob("generation/*.npz"))
    assert [path.stem for path in made] == presets.names()
    for path in made:
        assert_agrees(load_keras(path), read(path))
        assert_saved_model_agrees(path)


def test_a_generation_is_never_remade(tmp_path):
    with pytest.raises(ValueError, match="never remade"):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("other", "first_difference"), [("flat_spot", "outputs"), ("sugar_bsilu", "gradient")]
)
def test_the_comparison_tells_presets_apart(other, first_difference):
    golden = read(SAVEDMODELS / "generation_1" / "sugar_nelu.npz")
    with pytest.raises(AssertionError, match=rf"\n{first_difference}\n"):
        assert_agrees(load_keras(SAVEDMODELS / "generation_1" / other), golden)


@pytest.mark.parametrize("name", ["outputs", "gradient", "second_gradient"])
def test_the_comparison_sees_one_number_changed(name):
    path = SAVEDMODELS / "generation_1" / "sugar_nelu.npz"
    golden = read(path)
    golden[name].flat[np.argmax(np.abs(golden[name]))] *= 1.001
    with pytest.raises(AssertionError, match=rf"\n{name}\n"):
        assert_agrees(load_keras(path), golden)

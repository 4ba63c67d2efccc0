"""Values and gradients stay on the device they are put on; the package names none."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate
from keras_surrogate import Surrogate, functions, presets, testing

PACKAGE = Path(keras_surrogate.__file__).parent
PAIRS = [presets.get(name) for name in presets.names()] + [
    Surrogate(name) for name in functions.names()
]


def value_and_gradient(pair, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = pair(x)
    return y, tape.gradient(y, x)


def test_no_device_is_named_in_the_package():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(
            r"tf\.device|[\"']/?(CPU|GPU|TPU):", path.read_text(), re.IGNORECASE
        ), path


by_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.forward}-{pair.backward}")


@by_pair
def test_on_two_logical_devices_all_stays_where_it_is_put(pair):
    for device in tf.config.list_logical_devices("CPU"):
        with tf.device(device.name):
            placed = [
                tensor.device for tensor in value_and_gradient(pair, tf.constant(testing.POINTS))
            ]
        assert all(place.endswith(device.name.removeprefix("/")) for place in placed), placed


def test_under_a_mirrored_strategy_each_replica_has_the_surrogate():
    strategy = tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("CPU")]
    )
    pair = presets.get("artificial_relu")
    x = tf.constant([-2.0, 3.0])
    gradients = strategy.run(lambda: value_and_gradient(pair, x)[1])
    for gradient in strategy.experimental_local_results(gradients):
        np.testing.assert_allclose(gradient, tf.sigmoid(x))


@pytest.mark.gpu
@by_pair
def test_on_a_gpu_every_operation_is_there_and_agrees_with_the_cpu(pair):
    points = testing.POINTS.astype("float32")
    with tf.device("CPU:0"):
        expected = value_and_gradient(pair, tf.constant(points))
    with tf.device("GPU:0"):
        x = tf.constant(points)
    tf.config.set_soft_device_placement(False)
    try:
        for got, wanted in zip(value_and_gradient(pair, x), expected, strict=True):
            assert "GPU" in got.device
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    finally:
        tf.config.set_soft_device_placement(True)


@pytest.mark.gpu
def test_the_quickstart_trains_on_a_gpu(tmp_path):
    path = Path(__file__).parents[1] / "examples" / "01_quickstart.py"
    specification = importlib.util.spec_from_file_location("quickstart", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.main(epochs=2, output=tmp_path)

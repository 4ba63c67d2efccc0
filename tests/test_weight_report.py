"""Bits, memory and multiply-adds against numbers that are counted by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import conversion
from keras_surrogate.layers import SurrogateWeights

TERNARY = ks.Surrogate(lambda x: tf.clip_by_value(tf.round(x), -1, 1), "hard_tanh")


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            SurrogateWeights(keras.layers.Conv2D(4, 3, name="conv"), "ste_sign", scale="mean_abs"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Flatten(),
            SurrogateWeights(keras.layers.Dense(6, name="three"), TERNARY, scale="learned"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def test_a_network_counted_by_hand():
    report = conversion.weight_report(network())
    found = {
        layer.path: (layer.counts, layer.scales, layer.multiply_adds) for layer in report.layers
    }
    assert found == {
        # 3 x 3 x 1 x 4 signs at 6 x 6 places, 4 biases, 4 means.
        "conv/conv": ({1: 36, 32: 4}, 4, {1: 36 * 36}),
        "norm": ({32: 16}, 0, {}),
        # 144 inputs, 6 units, one step.
        "three/three": ({2: 144 * 6, 32: 6}, 1, {2: 144 * 6}),
        "head": ({32: 14}, 0, {32: 12}),
    }
    bits = 36 + 2 * 864 + 32 * (4 + 16 + 6 + 14) + 32 * 5
    assert report.memory == bits / 8
    assert report.weights == 940
    assert report.bits_per_weight == pytest.approx(bits / 940)
    assert report.multiply_adds == {1: 1296, 2: 864, 32: 12}


def test_the_table():
    lines = str(conversion.weight_report(network())).splitlines()
    assert lines[0].split() == [
        "layer",
        "weights",
        "bits",
        "memory",
        "in",
        "float32",
        "multiply-adds",
    ]
    assert lines[1].split() == [
        "conv/conv",
        "40",
        "36",
        "x",
        "1",
        "+",
        "4",
        "x",
        "32",
        "0.04",
        "KiB",
        "0.16",
        "KiB",
        "1,296",
        "x",
        "1",
        "bit",
    ]
    assert lines[-1].startswith("all")
    assert "1,296 x 1 bit + 864 x 2 bit + 12 x 32 bit" in lines[-1]
    assert max(map(len, lines)) <= 150
    report = conversion.weight_report(network())
    assert "bits per weight" in repr(report)
    assert "<table>" in report._repr_html_()


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (keras.layers.Dense(3), (5, 4), 5 * 12),
        (keras.layers.Conv1D(3, 2), (6, 4), 5 * 24),
        (keras.layers.Conv2DTranspose(3, 2, strides=2), (4, 4, 2), 16 * 24),
        (keras.layers.DepthwiseConv2D(3, padding="same"), (5, 5, 2), 25 * 18),
        (keras.layers.SeparableConv2D(3, 3), (5, 5, 2), 9 * (18 + 6)),
        (keras.layers.LSTM(3), (6, 4), 6 * (4 * 12 + 3 * 12)),
        (keras.layers.EinsumDense("abc,cd->abd", (6, 3)), (6, 4), 6 * 12),
        (keras.layers.EinsumDense("...x,xy->...y", 3), (6, 4), 6 * 12),
        (keras.layers.Embedding(9, 3), (6,), 0),
        (keras.layers.Conv2D(4, 3, groups=2), (5, 5, 4), 9 * 72),
        (keras.layers.Conv1D(3, 2), (None, 4), None),
        (keras.layers.TimeDistributed(keras.layers.Dense(3)), (5, 4), None),
    ],
)
@pytest.mark.parametrize("wraps", [False, True])
def test_multiply_adds(layer, shape, expected, wraps):
    layer = type(layer).from_config(layer.get_config())
    if wraps:
        layer = SurrogateWeights(layer, "ste_sign")
    model = keras.Sequential([keras.Input(shape), layer])
    (row,) = conversion.weight_report(model).layers
    if expected is None:
        assert row.multiply_adds is None
        assert "not known" in str(conversion.weight_report(model))
    else:
        assert sum(row.multiply_adds.values()) == expected
        assert set(row.multiply_adds) <= {1 if wraps else 32}


@pytest.mark.parametrize("wraps", [False, True])
def test_all_calls_of_a_shared_layer(wraps):
    conv = keras.layers.Conv2D(2, 3, padding="same", use_bias=False)
    dense = keras.layers.Dense(5)
    if wraps:
        conv = SurrogateWeights(conv, "ste_sign")
    nested = keras.Sequential([keras.Input((2,)), dense])
    inputs = keras.Input((8, 8, 2))
    x = conv(keras.layers.AveragePooling2D(2)(conv(inputs)))
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, nested(pooled) + nested(2 * pooled) + dense(pooled))
    found = [row.multiply_adds for row in conversion.weight_report(model).layers]
    assert found == [{1 if wraps else 32: 36 * (64 + 16)}, {32: 3 * 10}]


def test_layers_within_a_wrapped_block_have_their_own_shapes():
    block = keras.Sequential(
        [keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model = keras.Sequential([keras.Input((5, 5, 1)), SurrogateWeights(block, "ste_sign")])
    found = [row.multiply_adds for row in conversion.weight_report(model).layers]
    assert found == [{1: 9 * 18}, {1: 18 * 3}]


def test_it_is_the_same_after_loading(tmp_path):
    plain = keras.Sequential(
        [keras.Input((4,)), SurrogateWeights(keras.layers.Dense(3), "ste_sign", scale="max_abs")]
    )
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    assert conversion.weight_report(loaded).layers == conversion.weight_report(plain).layers


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="weight_report needs a Keras model, but got 3"):
        conversion.weight_report(3)
    with pytest.raises(ValueError, match=r"weight_report: \w+ is not built"):
        conversion.weight_report(keras.Sequential([keras.layers.Dense(2)]))


def test_a_model_without_weights():
    report = conversion.weight_report(keras.Sequential([keras.Input((2,)), keras.layers.ReLU()]))
    assert (report.weights, report.memory, report.bits_per_weight) == (0, 0, 0)
    assert str(report).splitlines()[-1].startswith("all")
    assert np.isfinite(report.memory)

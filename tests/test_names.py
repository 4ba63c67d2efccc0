"""Layers have unique names, in the order of their calls."""

import keras
import numpy as np
import pytest

from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.recording import names

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")


class Block(keras.layers.Layer):
    """Two Dense layers, the second of which is called first, and a weight of the model itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.second = keras.layers.Dense(4, "tanh", name="second")
        self.first = keras.layers.Dense(4, "tanh", name="first")

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)
        self.scale = self.add_weight(shape=(1,), initializer="ones", name="scale")
        super().build(shape)

    def call(self, x):
        return self.scale * self.second(self.first(x))


class HeadFirst(keras.Model):
    """A model whose attributes have another order than its calls."""

    def __init__(self, parts):
        super().__init__(name="head_first")
        self.head = keras.layers.Dense(1, name="head")
        self.parts = parts

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return self.head(x)


def trained(model, **arguments):
    """The logger after a short fit."""
    logger = GradientNormLogger(**arguments)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(X, X[:, :1], batch_size=4, verbose=0, callbacks=[logger])
    return logger


def sigmoids():
    return [keras.layers.Dense(8, "sigmoid", name=f"h{number}") for number in range(4)]


def test_the_logger_has_the_layers_of_a_subclassed_model_in_the_order_of_calls():
    logger = trained(HeadFirst(sigmoids()), also=("activations", "delta_norm"))
    assert logger.layer_names == ["h0", "h1", "h2", "h3", "head"]
    for quantity in ("activation_mean", "delta_norm", "dead_units"):
        assert logger.record.names(quantity) == ("h0", "h1", "h2", "h3", "head")
    # Sigmoids: the gradient shrinks towards the input, and deltas grow towards the output.
    assert (np.diff(np.median(logger.norms, axis=0)) > 0).all()


def test_so_it_does_for_a_model_that_was_built_before():
    model = HeadFirst(sigmoids())
    model(X)
    logger = trained(model)
    assert logger.layer_names == ["h0", "h1", "h2", "h3", "head"]
    assert (np.diff(np.median(logger.norms, axis=0)) > 0).all()


def test_and_for_one_within_another_and_in_eager_mode():
    inner = HeadFirst(sigmoids())
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(1, name="last")])
    model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=True)
    logger = GradientNormLogger()
    model.fit(X, X[:, :1], batch_size=4, verbose=0, callbacks=[logger])
    assert logger.layer_names == [
        f"head_first/{name}" for name in ("h0", "h1", "h2", "h3", "head")
    ] + ["last"]


def test_and_on_two_replicas(two_replicas):
    with two_replicas.scope():
        model = HeadFirst(sigmoids())
        logger = trained(model)
    assert logger.layer_names == ["h0", "h1", "h2", "h3", "head"]


def test_layers_that_are_not_called_come_last():
    model = HeadFirst(sigmoids())
    model.unused = keras.layers.Dense(2, name="unused")
    model.unused.build((None, 4))
    with pytest.warns(UserWarning, match="Gradients do not exist for variables"):
        logger = trained(model)
    assert logger.layer_names == ["h0", "h1", "h2", "h3", "head", "unused"]


def test_depth_looks_into_layers_that_hold_layers():
    model = HeadFirst([Block(name="block")])
    assert trained(model).layer_names == ["block", "head"]
    logger = trained(HeadFirst([Block(name="block")]), depth=2, also="activations")
    assert logger.layer_names == ["block/first", "block/second", "block", "head"]
    assert logger.record.names("activation_mean") == (
        "block/first",
        "block/second",
        "block",
        "head",
    )


def test_depth_parts_sum_to_the_whole():
    keras.utils.set_random_seed(1)
    whole = trained(HeadFirst([Block(name="block")]))
    keras.utils.set_random_seed(1)
    parts = trained(HeadFirst([Block(name="block")]), depth=2)
    joined = np.linalg.norm(parts.norms[:, :3], axis=1)
    np.testing.assert_allclose(joined, whole.norms[:, 0], rtol=1e-6)


def test_an_rnn_is_one_entry_at_every_depth():
    lstm = keras.layers.Bidirectional(keras.layers.LSTM(3), name="both")
    model = keras.Sequential([keras.Input((5, 4)), lstm, keras.layers.Dense(1, name="last")])
    assert list(names.layer_variables(model)) == ["both", "last"]
    assert list(names.layer_variables(model, depth=9)) == [
        "both/forward_lstm",
        "both/backward_lstm",
        "last",
    ]


def test_variables_have_their_paths_in_keras():
    model = keras.Sequential(
        [keras.Input((4,)), Block(name="block"), keras.layers.Dense(1, name="last")], name="outer"
    )
    logger = trained(model, per="variable")
    assert logger.layer_names == [
        *(
            "block/first/kernel",
            "block/first/bias",
            "block/second/kernel",
            "block/second/bias",
            "block/scale",
        ),
        *("last/kernel", "last/bias"),
    ]


def test_a_thousand_equal_names_are_told_apart():
    taken = {}
    for _ in range(1000):
        taken[names.unused("dense", taken)] = None
    assert list(taken)[-1] == "dense_999"


def test_a_name_is_that_of_one_layer_in_all_columns():
    # The first "twin" has no weights, so that the second one is the first with a gradient.
    parts = [keras.layers.Activation("tanh", name="twin"), keras.layers.Dense(8, name="twin")]
    logger = trained(HeadFirst(parts), also="activations")
    assert logger.layer_names == ["twin_1", "head"]
    assert logger.record.names("activation_mean") == ("twin", "twin_1", "head")
    assert list(names.layer_variables(logger.model)) == ["head", "twin_1"]
    assert list(names.layers_by_name(logger.model)) == ["head", "twin", "twin_1"]

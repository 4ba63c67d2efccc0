"""Swap and strip on small models of every make, what they report, what they refuse; and export."""

import functools
import json
import subprocess
import sys
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import conversion, functions, layers
from keras_surrogate.layers import SurrogateActivation

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 3)).astype("float32")


def sequential(*hidden, compiled=False):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6), *hidden, keras.layers.Dense(3)]
    )
    if compiled:
        model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def dense(activation, **kwargs):
    return keras.layers.Dense(5, activation=activation, **kwargs)


def gradients(model, x=X):
    with tf.GradientTape() as tape:
        outputs = model(x)
        loss = tf.reduce_sum(
            outputs * tf.cos(tf.reshape(tf.range(float(tf.size(outputs))), tf.shape(outputs)))
        )
    return [
        np.array(tf.convert_to_tensor(gradient))
        for gradient in tape.gradient(loss, model.trainable_variables)
    ]


def assert_same_outputs(model, other, x=X):
    outputs = model(x).numpy()
    np.testing.assert_allclose(other(x), outputs, rtol=1e-6, atol=1e-6 * np.max(np.abs(outputs)))


def assert_same_weights(model, other):
    for weight, other_weight in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight, other_weight)


def assert_same_gradients(model, other, x=X):
    for gradient, other_gradient in zip(gradients(model, x), gradients(other, x), strict=True):
        np.testing.assert_allclose(other_gradient, gradient, rtol=1e-4, atol=1e-6)


# What is in the model, the name by which to swap it, and what stands for it with the slope of
# softplus.
ACTIVATIONS = {
    "dense": (lambda: dense("relu"), "relu", lambda: dense(ks.Surrogate("relu", "softplus"))),
    "swish": (lambda: dense("swish"), "swish", lambda: dense(ks.Surrogate("silu", "softplus"))),
    "default slope": (
        lambda: dense("leaky_relu"),
        "leaky_relu",
        lambda: dense(ks.Surrogate("leaky_relu", "softplus")),
    ),
    "a layer as argument": (
        lambda: dense(keras.layers.LeakyReLU(0.3)),
        "leaky_relu",
        lambda: dense(ks.Surrogate(functions.LeakyRelu(0.3), "softplus")),
    ),
    "Activation": (
        lambda: keras.layers.Activation("tanh"),
        "tanh",
        lambda: SurrogateActivation("tanh", "softplus"),
    ),
    "ReLU": (lambda: keras.layers.ReLU(), "relu", lambda: SurrogateActivation("relu", "softplus")),
    "ReLU6": (
        lambda: keras.layers.ReLU(6),
        "relu6",
        lambda: SurrogateActivation("relu6", "softplus"),
    ),
    "ReLU with a threshold": (
        lambda: keras.layers.ReLU(threshold=0.5),
        "threshold",
        lambda: SurrogateActivation(functions.Threshold(0.5, 0.0), "softplus"),
    ),
    "LeakyReLU": (
        lambda: keras.layers.LeakyReLU(0.4),
        "leaky_relu",
        lambda: SurrogateActivation(functions.LeakyRelu(0.4), "softplus"),
    ),
    "ELU": (lambda: keras.layers.ELU(), "elu", lambda: SurrogateActivation("elu", "softplus")),
    "ELU with alpha": (
        lambda: keras.layers.ELU(alpha=0.5),
        "elu",
        lambda: SurrogateActivation(functions.Elu(0.5), "softplus"),
    ),
    "PReLU": (
        lambda: keras.layers.PReLU("ones"),
        "prelu",
        lambda: layers.SurrogatePReLU("softplus", "ones"),
    ),
}


@pytest.mark.parametrize(("make", "name", "expected"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_every_kind_of_activation_keeps_its_value_takes_the_slope_and_comes_back(
    make, name, expected
):
    model = sequential(make())
    swapped = conversion.swap(model, {name: "softplus"})
    by_hand = sequential(expected())
    by_hand.set_weights(model.get_weights())
    assert_same_outputs(model, swapped)
    assert_same_gradients(by_hand, swapped)
    assert np.max(np.abs(gradients(model)[0] - gradients(swapped)[0])) > 1e-3
    stripped = conversion.strip(swapped)
    assert stripped.get_config() == model.get_config()
    assert_same_weights(model, stripped)
    assert_same_gradients(model, stripped)
    assert len(conversion.report(swapped).changes) == len(conversion.report(stripped).changes) == 1


def test_a_relu_with_a_negative_slope_comes_back_as_the_equal_leaky_relu():
    model = sequential(keras.layers.ReLU(negative_slope=0.3))
    swapped = conversion.swap(model, {"leaky_relu": "softplus"})
    assert_same_outputs(model, swapped)
    restored = conversion.strip(swapped).layers[1]
    assert (type(restored), restored.negative_slope) == (keras.layers.LeakyReLU, 0.3)


def test_scale_is_taken_and_the_forward_is_not():
    swapped = conversion.swap(
        sequential(dense("tanh")), {"tanh": ks.Surrogate("sign", "hard_tanh", 2.0)}
    )
    assert swapped.layers[1].activation == ks.Surrogate("tanh", "hard_tanh", 2.0)


def test_a_surrogate_that_is_there_is_replaced():
    model = sequential(dense(ks.get("sugar_bsilu")), SurrogateActivation("artificial_relu"))
    swapped = conversion.swap(model, {"relu": "leaky_backward"})
    assert swapped.layers[1].activation == swapped.layers[2].surrogate == ks.get("leaky_backward")


def test_the_model_is_left_as_it_was_and_shares_nothing():
    model = sequential(dense("relu"), keras.layers.ReLU())
    config, weights = model.get_config(), model.get_weights()
    swapped = conversion.swap(model, {"relu": "leaky_backward"})
    for weight in swapped.weights:
        weight.assign(weight + 1)
    assert model.get_config() == config
    for weight, kept in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, kept)
    assert not {id(layer) for layer in model.layers} & {id(layer) for layer in swapped.layers}


def test_wrappers_cells_and_gates():
    inputs = keras.Input((4, 1))
    x = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True), name="both")(inputs)
    x = keras.layers.TimeDistributed(keras.layers.TimeDistributed(dense("relu")))(
        keras.layers.Reshape((4, 2, 3))(x)
    )
    x = keras.layers.RNN(keras.layers.GRUCell(2))(keras.layers.Reshape((4, 10))(x))
    model = keras.Model(inputs, x)
    swapped = conversion.swap(model, {"tanh": "softsign", "sigmoid": "tanh", "relu": "softplus"})
    both, distributed, rnn = swapped.layers[1], swapped.layers[3], swapped.layers[5]
    for layer in (both.forward_layer, both.backward_layer, rnn.cell):
        assert layer.activation == ks.Surrogate("tanh", "softsign")
        assert layer.recurrent_activation == ks.Surrogate("sigmoid", "tanh")
    assert distributed.layer.layer.activation == ks.Surrogate("relu", "softplus")
    assert_same_outputs(model, swapped, X[..., None])
    assert conversion.strip(swapped).get_config() == model.get_config()


def nested():
    inner = [dense("relu", name="first"), dense("relu", name="second")]
    encoder = keras.Sequential([keras.Input((4,)), *inner], name="encoder")
    return keras.Sequential(
        [keras.Input((4,)), encoder, dense("relu", name="first"), dense("tanh", name="last")]
    )


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, [True, True, True]),
        ("first", [True, False, True]),
        ("encoder", [True, True, False]),
        ("encoder/first", [True, False, False]),
        ("s*d", [False, True, False]),
        (["encoder/f*", "encoder/s*"], [True, True, False]),
        (lambda layer: layer.name == "second", [False, True, False]),
    ],
)
def test_layers_are_chosen_by_name_path_pattern_or_predicate(chosen, expected):
    swapped = conversion.swap(nested(), {"relu": "softplus"}, layers=chosen)
    places = [*swapped.layers[0].layers, swapped.layers[1]]
    assert [isinstance(layer.activation, ks.Surrogate) for layer in places] == expected


def test_a_layer_that_is_an_argument_is_chosen_as_the_layer_that_has_it():
    model = sequential(dense(keras.layers.LeakyReLU()), keras.layers.LeakyReLU())
    swapped = conversion.swap(
        model, {"leaky_relu": "relu"}, layers=lambda layer: isinstance(layer, keras.layers.Dense)
    )
    assert isinstance(swapped.layers[1].activation, SurrogateActivation)
    assert isinstance(swapped.layers[2], keras.layers.LeakyReLU)


@pytest.mark.parametrize(
    ("mapping", "options", "message"),
    [
        ({"rleu": "softplus"}, {}, "'rleu'. Did you mean 'relu'"),
        ({"relu": "sofplus"}, {}, "'sofplus'. Did you mean 'softplus'"),
        ({"softmax": "relu"}, {}, "softmax is not elementwise"),
        (
            {"selu": "relu", "relu": "relu"},
            {},
            r"no activation 'selu' that swap can reach, but relu \(3\), tanh \(1\)",
        ),
        (
            {"tanh": "relu"},
            {"layers": "encoder"},
            r"The layers chosen have no activation 'tanh'.* but relu \(2\)",
        ),
        ({"relu": "relu"}, {"layers": "encodr"}, "no layer 'encodr'. Did you mean 'encoder'"),
        ({}, {}, "needs a mapping"),
        ("relu", {}, "needs a mapping"),
        ({3: "relu"}, {}, "the name of an activation, such as 'relu', or a function, but is 3"),
        (
            {"elu": "softplus"},
            {},
            r"no activation 'elu' .*, but relu \(3\), tanh \(1\). Did you mean 'relu'\?",
        ),
        ({"sugar_bsilu": "relu"}, {}, r"published pair of two functions .*get\('sugar_bsilu'\)"),
        ({tf.nn.relu: "relu"}, {}, "A function as key matches only this function, a name every"),
        (
            {keras.layers.ReLU(): "relu"},
            {},
            "needs a function, but got the layer 're_lu.*SurrogateActivation",
        ),
    ],
)
def test_mistakes_say_what_is_wrong(mapping, options, message):
    with pytest.raises(ValueError, match=message):
        conversion.swap(nested(), mapping, **options)


def bent(x):
    return tf.nn.relu(x) - 0.1 * x


def straight(x):
    return 2 * x


@keras.saving.register_keras_serializable(package="test")
def registered(x):
    return x * x


@pytest.mark.parametrize("key", ["bent", bent])
def test_a_function_of_the_user_s_own_matches_by_its_name_and_by_itself(key, tmp_path):
    model = sequential(dense(bent), keras.layers.Activation(bent), dense(straight))
    swapped = conversion.swap(model, {key: "softplus"})
    pair = ks.Surrogate(bent, "softplus")
    changed = [change.path for change in conversion.report(swapped).changes]
    assert changed == ["dense.activation", "activation.activation"]
    assert swapped.layers[1].activation == swapped.layers[2].activation == pair
    assert swapped.layers[3].activation is straight
    assert_same_outputs(model, swapped)
    by_hand = sequential(dense(pair), SurrogateActivation(pair), dense(straight))
    by_hand.set_weights(model.get_weights())
    assert_same_gradients(by_hand, swapped)
    with pytest.raises(ValueError, match=r"bent cannot be saved.*register_keras_serializable"):
        swapped.save(tmp_path / "model.keras")
    stripped = conversion.strip(swapped)
    assert stripped.layers[1].activation is stripped.layers[2].activation is bent
    assert_same_gradients(model, stripped)


@pytest.mark.parametrize("key", ["registered", "test>registered", registered])
def test_a_registered_function_is_saved_with_its_surrogate(key, tmp_path):
    model = sequential(dense(registered))
    swapped = conversion.swap(model, {key: "softplus"})
    swapped.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[1].activation == ks.Surrogate(registered, "softplus")
    assert conversion.strip(loaded).get_config() == model.get_config()


def test_functions_as_keys_mean_themselves_and_keras_s_own_mean_their_names():
    leaky = [keras.layers.LeakyReLU(0.3, name="steep"), keras.layers.LeakyReLU(0.1, name="flat")]
    model = sequential(dense("relu"), *leaky, dense(lambda x: 3 * x))
    assert conversion.swap(model, {keras.activations.relu: "softplus", "<lambda>": "tanh"}).layers[
        1
    ].activation == (ks.Surrogate("relu", "softplus"))
    with pytest.warns(UserWarning, match="a lambda is not searched"):
        both = conversion.swap(model, {keras.activations.leaky_relu: "tanh"})
        swapped = conversion.swap(
            model, {"leaky_relu": "tanh", functions.LeakyRelu(0.3): "softplus"}
        )
    assert len(conversion.report(both).changes) == 2
    slopes = [swapped.get_layer(name).surrogate.backward.title for name in ("steep", "flat")]
    assert slopes == ["softplus", "tanh"]


def test_an_activation_without_a_name_is_no_obstacle():
    halved = functools.partial(tf.multiply, 0.5)
    model = sequential(dense("relu"), dense(halved))
    swapped = conversion.swap(model, {"relu": "softplus"}, inplace=True)
    assert [change.path for change in conversion.report(swapped).changes] == ["dense.activation"]


def test_operations_are_named_and_counted_where_nothing_else_matches():
    inputs = keras.Input((4,))
    x = keras.ops.relu(keras.layers.Dense(5, activation="tanh")(inputs))
    model = keras.Model(
        inputs, keras.layers.Dense(3)(keras.activations.relu(keras.layers.Dense(5)(x))), name="mine"
    )
    words = r"mine calls keras.ops.relu 2 times \(relu, re_lu\), .* use keras.layers.Activation"
    with pytest.raises(ValueError, match=rf"no activation 'relu' .*but tanh \(1\)\. {words}"):
        conversion.swap(model, {"relu": "softplus"})
    assert conversion.report(conversion.swap(model, {"tanh": "softsign"})).unreached == ()


def replicas_of(model):
    model.fit(X, Y, verbose=0)
    return model.distribute_strategy.num_replicas_in_sync


@pytest.mark.filterwarnings("ignore:.*retracing")
def test_a_copy_has_the_model_s_own_strategy(two_replicas, tmp_path):
    with two_replicas.scope():
        model = sequential(dense("relu"), keras.layers.ReLU(), compiled=True)
    assert replicas_of(model) == 2
    swapped = conversion.swap(model, {"relu": SurrogateActivation("softplus", blend=0.5)})
    assert_same_outputs(model, swapped)
    assert swapped.distribute_strategy is two_replicas
    assert replicas_of(swapped) == 2
    stripped = conversion.strip(swapped)
    assert_same_outputs(swapped, stripped)
    assert replicas_of(stripped) == 2
    for gradient in ("surrogate", "true", "none"):
        conversion.export(swapped, tmp_path / gradient, gradient=gradient)
        loaded = tf.saved_model.load(tmp_path / gradient)
        np.testing.assert_allclose(loaded.serve(X), swapped(X), rtol=1e-5, atol=1e-6)


def test_report_and_warning_say_each_reason_once():
    model = sequential(*(Block(name=f"block_{number}") for number in range(5)))
    with pytest.warns(
        UserWarning,
        match="block_0, block_1, block_2 and 2 more: the call of Block is not searched",
    ):
        swapped = conversion.swap(model, {"relu": "leaky_backward"})
    assert str(conversion.report(swapped)).count("the call of Block") == 1
    assert "block_0, block_1, block_2, block_3, block_4: the call of Block" in str(
        conversion.report(swapped)
    )


@pytest.mark.parametrize(
    "call", [lambda model: conversion.swap(model, {"relu": "relu"}), conversion.strip]
)
def test_what_is_not_a_model_is_refused(call):
    with pytest.raises(ValueError, match="needs a Keras model"):
        call(dense("relu"))


def test_training_goes_on_where_it_was():
    others = keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=1)
    model = sequential(dense("relu"), *others, compiled=True)
    model.fit(X, Y, epochs=2, verbose=0)
    copy = conversion.strip(conversion.swap(model, {"relu": "leaky_backward"}))
    assert int(copy.optimizer.iterations) == int(model.optimizer.iterations) == 2
    for variable, other in zip(model.optimizer.variables, copy.optimizer.variables, strict=True):
        np.testing.assert_array_equal(variable, other)
    for each in (model, copy):
        each.fit(X, Y, epochs=3, shuffle=False, verbose=0)
    for weight, other in zip(model.weights, copy.weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)


def test_a_model_that_was_compiled_and_not_trained_and_one_that_was_not_compiled():
    assert not conversion.swap(sequential(dense("relu")), {"relu": "softplus"}).compiled
    swapped = conversion.swap(sequential(dense("relu"), compiled=True), {"relu": "softplus"})
    assert float(swapped.optimizer.learning_rate) == pytest.approx(0.01)
    swapped.fit(X, Y, verbose=0)


def squared(y, predicted):
    return tf.reduce_mean(tf.square(y - predicted), axis=-1)


def test_what_is_not_registered_is_found_again():
    def doubled(x):
        return 2 * x

    scaled = keras.layers.Lambda(lambda x: X[0, 0] * x)
    model = sequential(dense("relu"), dense(doubled), dense(lambda x: x / 2), scaled)
    model.compile("sgd", squared)
    with pytest.warns(
        UserWarning,
        match="2 place.*a lambda is not searched; .*a Lambda layer is not searched",
    ):
        swapped = conversion.swap(model, {"relu": "softplus"})
    assert_same_outputs(model, swapped)
    assert swapped.loss is squared


class Slower(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that is not registered, as are all names below."""

    def __call__(self, step):
        return 0.1 / (1 + tf.cast(step, "float32"))

    def get_config(self):
        return {}


class MySGD(keras.optimizers.SGD):
    """An optimizer."""


class Penalty(keras.regularizers.Regularizer):
    def __call__(self, weights):
        return 0.01 * tf.reduce_sum(tf.square(weights))

    def get_config(self):
        return {}


@pytest.mark.parametrize("fits", [False, True])
@pytest.mark.parametrize(
    "compilation",
    [
        {"metrics": [squared]},
        {"metrics": [keras.metrics.MeanMetricWrapper(squared, name="mine")]},
        {"optimizer": keras.optimizers.SGD(Slower())},
        {"optimizer": MySGD(0.1, momentum=0.9)},
        {"loss": keras.losses.MeanSquaredError(), "weighted_metrics": [squared]},
    ],
)
def test_no_part_of_a_compilation_need_be_registered(compilation, fits):
    layer = keras.layers.Dense(3, "relu", kernel_regularizer=Penalty())
    model = sequential(layer)
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compilation})
    if fits:
        model.fit(X, Y, verbose=0)
    swapped = conversion.swap(model, {"relu": "softplus"})
    assert type(swapped.optimizer) is type(model.optimizer)
    expected = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert swapped.evaluate(X, Y, verbose=0, return_dict=True) == pytest.approx(expected)
    swapped.fit(X, Y, verbose=0)


def test_frozen_layers_stay_frozen_and_so_does_the_state_of_the_optimizer():
    inner, inputs = keras.Input((4,)), keras.Input((4,))
    first, second = dense("relu"), dense("relu")
    encoder = keras.Model(inner, second(first(inner)))
    model = keras.Model(inputs, keras.layers.Dense(3)(encoder(inputs)))
    encoder.trainable = False
    first.trainable = True
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(X, Y, verbose=0)
    swapped = conversion.swap(model, {"relu": "softplus"})
    assert_same_outputs(model, swapped)
    copied = swapped.layers[1]
    assert [copied.trainable, *(layer.trainable for layer in copied.layers[1:])] == [
        False,
        True,
        False,
    ]
    shapes, expected = (
        [weight.shape for weight in each.trainable_weights] for each in (swapped, model)
    )
    assert shapes == expected
    assert len(swapped.optimizer.variables) == len(model.optimizer.variables)
    assert conversion.strip(swapped).get_config() == model.get_config()


def test_dtypes_and_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = sequential(
            dense("relu"), keras.layers.ReLU(), keras.layers.LeakyReLU(dtype="float32")
        )
    finally:
        keras.config.set_dtype_policy("float32")
    slope = SurrogateActivation("softplus")
    swapped = conversion.swap(model, {"relu": slope, "leaky_relu": slope})
    np.testing.assert_array_equal(tf.cast(swapped(X), "float32"), tf.cast(model(X), "float32"))
    assert [layer.dtype_policy.name for layer in swapped.layers] == [
        layer.dtype_policy.name for layer in model.layers
    ]
    assert swapped.layers[1].activation.dtype_policy.name == "mixed_bfloat16"
    assert conversion.strip(swapped).get_config() == model.get_config()


def test_models_that_are_not_built():
    model = keras.Sequential([dense("relu"), keras.layers.Dense(3)])
    swapped = conversion.swap(model, {"relu": "softplus"})
    assert not swapped.built
    assert swapped(X).shape == (8, 3)
    model(X)
    assert_same_outputs(model, conversion.swap(model, {"relu": "softplus"}))


def test_statistics_and_vocabularies_come_along():
    normalization = keras.layers.Normalization()
    normalization.adapt(3 * X + 1)
    model = sequential(dense("relu"))
    model = keras.Sequential([keras.Input((4,)), normalization, model])
    assert_same_outputs(model, conversion.swap(model, {"relu": "softplus"}))
    words = keras.layers.StringLookup()
    words.adapt(["a", "b", "b"])
    texts = keras.Sequential(
        [keras.Input((1,), dtype="string"), words, keras.layers.Embedding(5, 3), dense("relu")]
    )
    assert_same_outputs(
        texts, conversion.swap(texts, {"relu": "softplus"}), tf.constant([["b"], ["c"]])
    )


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_annealing_needs_layers_and_gets_them(name):
    model = sequential(dense(name), keras.layers.Activation(name), compiled=True)
    swapped = conversion.swap(model, {name: SurrogateActivation("softplus", blend=0.5)})
    assert [swapped.layers[1].activation.blend, swapped.layers[2].activation.blend] == [0.5, 0.5]
    swapped.fit(X, Y, verbose=0, callbacks=[ks.callbacks.SurrogateAnnealing(lambda step: 0.0)])
    stripped = conversion.strip(swapped)
    assert stripped.get_config() == model.get_config()
    assert_same_outputs(swapped, stripped)


class Block(keras.layers.Layer):
    """A layer as users write it: what it makes is not in its configuration, apart from its own activation."""

    def __init__(self, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.dense = keras.layers.Dense(5, activation="relu")
        self.rectifier = keras.layers.ReLU()

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.rectifier(self.activation(self.dense(inputs)) - 0.1)

    def get_config(self):
        return {**super().get_config(), "activation": keras.activations.serialize(self.activation)}


class Subclassed(keras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.stack = [keras.layers.Dense(units, activation="tanh") for _ in range(2)]
        self.last = keras.layers.Dense(3)

    def call(self, inputs):
        for layer in self.stack:
            inputs = layer(inputs)
        return self.last(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_a_layer_with_its_own_call_is_swapped_as_far_as_can_be_and_told_of():
    model = sequential(Block(name="block"))
    with pytest.warns(UserWarning, match="3 place"):
        swapped = conversion.swap(model, {"relu": "leaky_backward"})
    block = swapped.layers[1]
    assert block.activation == block.dense.activation == ks.get("leaky_backward")
    report = conversion.report(swapped)
    assert [change.path.split("/")[0] for change in report.changes] == ["block.activation", "block"]
    unreached = {place.path.rstrip("_0123456789"): place.reason for place in report.unreached}
    assert any("a .keras file creates the old one" in reason for reason in unreached.values())
    assert "not changed" in unreached["block/re_lu"]
    assert "the call of Block is not searched" in unreached["block"]
    assert_same_outputs(model, swapped)
    stripped = conversion.strip(swapped)
    assert stripped.get_config() == model.get_config()
    assert_same_gradients(model, stripped)


def test_a_subclassed_model():
    model = Subclassed(6)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    with pytest.warns(UserWarning, match="the call of Subclassed is not searched"):
        swapped = conversion.swap(model, {"tanh": "softsign"})
    assert type(swapped) is Subclassed
    assert [layer.activation for layer in swapped.stack] == [ks.Surrogate("tanh", "softsign")] * 2
    assert_same_outputs(model, swapped)
    np.testing.assert_array_equal(swapped.optimizer.variables[2], model.optimizer.variables[2])
    assert_same_gradients(model, conversion.strip(swapped))


class OwnTraining(keras.Model):
    def train_step(self, data):
        return {**super().train_step(data), "own": tf.constant(1.0)}


def test_a_functional_model_of_a_class_of_its_own_keeps_it():
    inputs = keras.Input((4,), name="mine")
    model = OwnTraining(inputs, keras.layers.Dense(3)(dense("relu")(inputs)))
    model.compile("sgd", "mse")
    swapped = conversion.swap(model, {"relu": "softplus"})
    assert type(swapped) is OwnTraining
    assert swapped.fit(X, Y, verbose=0).history["own"] == [1.0]
    assert conversion.strip(swapped).get_config() == model.get_config()


def test_operations_on_tensors_and_odd_relus_are_told_of():
    inputs = keras.Input((4,))
    x = keras.layers.ReLU(max_value=4, threshold=1, name="odd")(
        keras.ops.relu(dense("relu")(inputs))
    )
    model = keras.Model(inputs, x)
    with pytest.warns(
        UserWarning,
        match=r"odd: no function of the collection equals it; .*calls keras.ops.relu once",
    ):
        swapped = conversion.swap(model, {"relu": "softplus"})
    assert len(conversion.report(swapped).changes) == 1
    assert "2 place(s) not reached" in str(conversion.report(swapped))
    assert_same_outputs(model, swapped)


def test_a_sigmoid_that_ends_the_model_is_warned_of():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            dense("sigmoid"),
            keras.layers.Dense(1, activation="sigmoid", name="last"),
        ]
    )
    with pytest.warns(
        UserWarning, match="last.activation: ends the model: .* no longer use its logits"
    ):
        conversion.swap(model, {"sigmoid": "tanh"})
    swapped = conversion.swap(model, {"sigmoid": "tanh"}, layers=lambda layer: layer.name != "last")
    assert conversion.report(swapped).unreached == ()


class WithoutConfig(keras.layers.Layer):
    def __init__(self, *numbers, **kwargs):
        super().__init__(**kwargs)
        self.numbers = numbers

    def call(self, inputs):
        return inputs * self.numbers[0]


def test_a_layer_that_cannot_be_copied_is_an_error_that_says_what_to_do():
    model = sequential(WithoutConfig(2.0), dense("relu"))
    with pytest.raises(ValueError, match=r"cannot be created.*get_config.*inplace=True"):
        conversion.swap(model, {"relu": "softplus"})
    with pytest.warns(UserWarning, match="WithoutConfig is not searched"):
        conversion.swap(model, {"relu": "softplus"}, inplace=True)
    assert model.layers[2].activation == ks.Surrogate("relu", "softplus")


def test_in_place_changes_what_fit_evaluate_and_predict_do():
    recurrent = keras.layers.Reshape((1, 5)), keras.layers.SimpleRNN(4)
    model = sequential(dense("relu"), keras.layers.Activation("relu"), *recurrent)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    logger = ks.callbacks.GradientNormLogger()
    model.fit(X, Y, verbose=0, callbacks=[logger])
    model.predict(X, verbose=0)
    assert logger.norms[0, 0] > 0
    assert (
        conversion.swap(
            model, {"relu": ks.Surrogate("relu", scale=0.0), "tanh": "linear"}, inplace=True
        )
        is model
    )
    model.fit(X, Y, verbose=0, callbacks=[logger])
    assert logger.norms[0, 0] == 0
    assert model.layers[4].cell.activation == ks.Surrogate("tanh", "linear")
    assert conversion.strip(model).layers[4].activation is keras.activations.tanh


def test_what_cannot_be_done_in_place_is_refused_before_anything_is_changed():
    model = sequential(dense("relu", name="first"), keras.layers.ReLU())
    with pytest.raises(ValueError, match="cannot replace whole layers in place, which re_lu"):
        conversion.swap(model, {"relu": "softplus"}, inplace=True)
    with pytest.raises(ValueError, match="cannot put layers into a built model"):
        conversion.swap(
            model, {"relu": SurrogateActivation("softplus")}, layers="first", inplace=True
        )
    assert model.layers[1].activation is keras.activations.relu


def test_a_prelu_has_no_scale():
    with pytest.raises(ValueError, match="neither a scale nor a blend"):
        conversion.swap(
            sequential(keras.layers.PReLU()), {"prelu": ks.Surrogate("relu", "elu", 2.0)}
        )


def test_strip_of_a_plain_model_is_an_equal_copy_and_strip_is_idempotent():
    model = sequential(dense("gelu"), keras.layers.ReLU())
    stripped = conversion.strip(conversion.strip(model))
    assert stripped.get_config() == model.get_config()
    assert stripped is not model
    assert_same_weights(model, stripped)
    assert conversion.report(stripped).changes == ()


OTHER_LAYERS = [
    (layers.GradientReversal(), keras.layers.Activation),
    (layers.GradientScale(0.5), keras.layers.Activation),
    (layers.GuidedReLU(), keras.layers.ReLU),
    (layers.DeconvReLU(), keras.layers.ReLU),
    (layers.SurrogatePReLU("softplus", "ones"), keras.layers.PReLU),
    (SurrogateActivation("tanh", "softsign"), keras.layers.Activation),
    (SurrogateActivation(functions.LeakyRelu(0.4), "linear"), keras.layers.LeakyReLU),
]


@pytest.mark.parametrize(("layer", "plain"), OTHER_LAYERS)
def test_strip_turns_the_other_layers_into_keras_s(layer, plain):
    model = sequential(type(layer).from_config(layer.get_config()))
    stripped = conversion.strip(model)
    assert type(stripped.layers[1]) is plain
    assert stripped.layers[1].name == model.layers[1].name
    assert_same_outputs(model, stripped)


class CreatesSurrogates(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(5, activation=ks.get("artificial_relu"))

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        return super().get_config()


def test_strip_tells_of_surrogates_that_a_class_creates():
    model = sequential(CreatesSurrogates())
    with pytest.warns(
        UserWarning, match="its class creates a surrogate, also when a .keras file is loaded"
    ):
        stripped = conversion.strip(model)
    assert stripped.layers[1].dense.activation is keras.activations.relu
    assert_same_outputs(model, stripped)


class KeepsConfiguration(keras.layers.Layer):
    def __init__(self, pair, **kwargs):
        super().__init__(**kwargs)
        self.pair = pair

    def call(self, inputs):
        return ks.get(self.pair)(inputs)

    def get_config(self):
        return {**super().get_config(), "pair": self.pair}


def test_strip_refuses_what_would_still_need_the_package():
    model = sequential(
        KeepsConfiguration(keras.saving.serialize_keras_object(ks.get("artificial_relu")))
    )
    with pytest.raises(ValueError, match="still refers to 'keras_surrogate"):
        conversion.strip(model)


def test_strip_tells_that_an_rrelu_no_longer_draws():
    model = sequential(layers.RReLU())
    with pytest.warns(UserWarning, match="no longer draws random slopes in training"):
        stripped = conversion.strip(model)
    assert_same_outputs(model, stripped)


def test_what_keras_does_not_have_is_named():
    model = sequential(
        dense(ks.get("ste_sign"), name="binary"),
        SurrogateActivation("bsilu"),
        layers.SurrogateStep(),
        dense("relu"),
    )
    named = r"binary.activation \(sign with the slope of hard_tanh\), surrogate_activation \(bsilu\), surrogate_step"
    with pytest.raises(ValueError, match=named):
        conversion.strip(model)


@pytest.mark.parametrize(
    "name", sorted(set(functions.names()) & set(dir(keras.activations)) - {"threshold"})
)
def test_every_function_that_keras_has_goes_in_and_out_with_equal_values(name):
    model = sequential(dense(name), keras.layers.Activation(name))
    swapped = conversion.swap(model, {name: "softplus"})
    assert len(conversion.report(swapped).changes) >= 2
    assert_same_outputs(model, swapped)
    assert conversion.strip(swapped).get_config() == model.get_config()


_WITHOUT_THE_PACKAGE = """
import sys
sys.modules["keras_surrogate"] = None
import keras, numpy as np
np.save(sys.argv[3], keras.saving.load_model(sys.argv[1])(np.load(sys.argv[2])))
"""


def in_a_fresh_process(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-500:]
    return finished.stdout


def test_a_stripped_file_loads_where_the_package_is_not_installed(tmp_path):
    model = sequential(dense("relu"), keras.layers.ReLU(), keras.layers.ELU(0.5), compiled=True)
    swapped = conversion.swap(model, {"relu": "sugar_bsilu", "elu": "softplus"})
    swapped.fit(X, Y, verbose=0)
    stripped = conversion.strip(swapped)
    stripped.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert b"keras_surrogate" not in archive.read("config.json")
    np.save(tmp_path / "x.npy", X)
    in_a_fresh_process(
        _WITHOUT_THE_PACKAGE, tmp_path / "model.keras", tmp_path / "x.npy", tmp_path / "y.npy"
    )
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), swapped(X), rtol=1e-6, atol=1e-7)


def test_a_swapped_file_still_strips_after_it_was_loaded(tmp_path):
    model = sequential(
        dense("relu"), keras.layers.ReLU(6), keras.layers.LeakyReLU(0.4), keras.layers.PReLU()
    )
    swapped = conversion.swap(
        model, {"relu": "softplus", "relu6": "relu", "leaky_relu": "linear", "prelu": "elu"}
    )
    swapped.save(tmp_path / "model.keras")
    stripped = conversion.strip(keras.saving.load_model(tmp_path / "model.keras"))
    assert stripped.get_config() == model.get_config()
    assert_same_weights(model, stripped)


def test_there_is_a_report_only_on_what_was_converted():
    model = sequential(dense("relu"))
    with pytest.raises(ValueError, match="no report"):
        conversion.report(model)
    swapped = conversion.swap(model, {"relu": ks.Surrogate("relu", "softplus", 2.0)})
    assert (
        str(conversion.report(swapped)).splitlines()[1].split(": ")[1]
        == "relu -> relu with the slope of 2 * softplus"
    )


_SERVED = """
import json, sys
sys.modules["keras_surrogate"] = None
import numpy as np, tensorflow as tf
x = tf.constant(np.load(sys.argv[1]))
for path in sys.argv[2:]:
    loaded = tf.saved_model.load(path)
    with tf.GradientTape() as tape:
        y = loaded.serve(x)
        loss = tf.reduce_sum(y * tf.cos(tf.reshape(tf.range(float(tf.size(y))), tf.shape(y))))
    found = tape.gradient(loss, loaded.trainable_variables)
    print(json.dumps([y.numpy().tolist(), [None if each is None else each.numpy().tolist() for each in found]]))
"""


def test_export_keeps_the_gradient_that_was_asked_for(tmp_path):
    mapping = {"relu": "sugar_bsilu", "elu": "softplus", "tanh": "softsign"}
    plain = sequential(dense("relu"), keras.layers.ELU(), dense("tanh"), keras.layers.Dropout(0.5))
    swapped = conversion.swap(plain, mapping)
    paths = {gradient: tmp_path / gradient for gradient in ("surrogate", "true", "none")}
    for gradient, path in paths.items():
        conversion.export(swapped, path, gradient=gradient)
    np.save(tmp_path / "x.npy", X)
    printed = in_a_fresh_process(_SERVED, tmp_path / "x.npy", *paths.values()).splitlines()
    served = dict(zip(paths, map(json.loads, printed), strict=True))
    for outputs, _ in served.values():
        np.testing.assert_allclose(outputs, plain(X), rtol=1e-5, atol=1e-6)
    assert served["none"][1] == [None] * len(plain.trainable_variables)
    for gradient, model in {"surrogate": swapped, "true": plain}.items():
        for each, expected in zip(served[gradient][1], gradients(model), strict=True):
            np.testing.assert_allclose(each, expected, rtol=1e-4, atol=1e-5)
    assert_same_gradients(
        conversion.swap(plain, mapping), swapped
    )  # exporting has changed nothing here


def test_export_of_the_true_gradient_also_where_keras_lacks_the_forward(tmp_path):
    model = sequential(dense(ks.get("ste_sign")))
    conversion.export(model, tmp_path / "served", gradient="true")
    loaded = tf.saved_model.load(tmp_path / "served")
    with tf.GradientTape() as tape:
        outputs = loaded.serve(X)
    np.testing.assert_allclose(outputs, model(X), rtol=1e-5, atol=1e-6)
    first = tape.gradient(outputs, loaded.trainable_variables[0], unconnected_gradients="zero")
    assert not np.any(first)


def test_export_replaces_an_earlier_one_and_nothing_if_it_fails(tmp_path):
    for units in (2, 3):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
        conversion.export(model, tmp_path / "served")
    assert tf.saved_model.load(tmp_path / "served").serve(X).shape == (8, 3)
    with pytest.raises(
        ValueError, match="gradient must be one of 'surrogate', 'true', 'none', but is 'all'"
    ):
        conversion.export(model, tmp_path / "other", gradient="all")
    with pytest.raises(ValueError, match="is not built"):
        conversion.export(keras.Sequential([keras.layers.Dense(3)]), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("gradient", ["surrogate", "true"])
@pytest.mark.parametrize("below", ["", "folder"])
def test_export_to_a_file_is_refused(below, gradient, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        ValueError, match=r"cannot be a folder, because .*file is a file; name another folder"
    ):
        conversion.export(sequential(dense("relu")), tmp_path / "file" / below, gradient=gradient)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("gradient", ["true", "none"])
def test_tflite_needs_no_custom_operations(gradient, tmp_path):
    if not hasattr(tf, "lite"):
        pytest.skip(
            "this TensorFlow has no TFLite converter; it is the separate package ai-edge-litert"
        )
    model = sequential(dense("relu"), keras.layers.ReLU(6), dense("gelu"), dense("tanh"))
    swapped = conversion.swap(model, dict.fromkeys(("relu", "gelu", "relu6", "tanh"), "softplus"))
    conversion.export(swapped, tmp_path / "served", gradient=gradient)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the converter and the interpreter are deprecated in favour of LiteRT
        converted = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "served")).convert()
        interpreter = tf.lite.Interpreter(model_content=converted)
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], X.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], X)
    interpreter.invoke()
    np.testing.assert_allclose(
        interpreter.get_tensor(wanted["index"]), model(X), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("steps", [6, None])
@pytest.mark.parametrize(
    "make",
    [keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN],
    ids=lambda make: make.__name__,
)
def test_an_exported_loop_has_the_gradient_of_its_surrogates(make, steps, tmp_path):
    layer = make(3, activation=ks.Surrogate("tanh", "sigmoid", scale=2.0))
    model = keras.Sequential([keras.Input((steps, 4)), layer, keras.layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    conversion.export(model, tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))

    def gradients(call, variables):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(call(x) ** 2)
        return tape.gradient(loss, variables)

    np.testing.assert_allclose(loaded.serve(x), model(x), rtol=1e-6, atol=1e-7)
    expected = gradients(model, [one.value for one in model.trainable_variables])
    got = gradients(loaded.serve, loaded.trainable_variables)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    with ks.true_gradients(model):
        true = gradients(model, [one.value for one in model.trainable_variables])
    assert any(np.max(abs(one - other)) > 1e-3 for one, other in zip(true, expected, strict=True))

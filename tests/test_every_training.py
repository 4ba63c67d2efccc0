"""The logger against a plain `GradientTape`, in the ways Keras can train; each twin is a hand-written loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate
from keras_surrogate.callbacks import GradientNormLogger

LAYERS = keras.layers
RANDOM = np.random.default_rng(0)
BATCH, SIZE = 16, 40  # the last batch is a short one
TARGETS = RANDOM.normal(size=(SIZE, 1)).astype("float32")
VECTORS = RANDOM.normal(size=(SIZE, 6)).astype("float32")
SERIES = RANDOM.normal(size=(SIZE, 7, 2)).astype("float32")
IMAGES = RANDOM.normal(size=(SIZE, 8, 8, 1)).astype("float32")
TOKENS = RANDOM.integers(0, 5, (SIZE, 7))


def dense(**first):
    first = {"activation": Surrogate("tanh", "softsign"), **first}
    return keras.Sequential([keras.Input((6,)), LAYERS.Dense(4, **first), LAYERS.Dense(1, dtype="float32")])


def shared():
    inputs, twice = keras.Input((6,)), LAYERS.Dense(6, "tanh")
    return keras.Model(inputs, LAYERS.Dense(1)(twice(twice(inputs))))


def nested():
    inner = keras.Sequential([keras.Input((6,)), LAYERS.Dense(5, "tanh"), LAYERS.Dense(6)])
    inputs = keras.Input((6,))
    return keras.Model(inputs, LAYERS.Dense(1)(inner(inner(inputs))))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = LAYERS.Dense(4, "tanh")
        self.head = LAYERS.Dense(1)

    def call(self, inputs):
        hidden = self.hidden(inputs)
        self.add_loss(0.1 * tf.reduce_mean(hidden**2))
        return self.head(hidden)


def frozen():
    model = dense()
    model.layers[0].trainable = False
    return model


def convolution():
    layers = [LAYERS.Conv2D(4, 3), LAYERS.BatchNormalization(), LAYERS.ReLU(), LAYERS.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, LAYERS.Dense(1)])


def embedding():
    return keras.Sequential([keras.Input((7,), dtype="int32"), LAYERS.Embedding(5, 3), LAYERS.LSTM(4), LAYERS.Dense(1)])


def recurrent():
    return keras.Sequential([keras.Input((7, 2)), LAYERS.Bidirectional(LAYERS.GRU(4)), LAYERS.Dense(1)])


MODELS = {
    "dense": (dense, VECTORS),
    "regularised": (lambda: dense(kernel_regularizer="l2", bias_regularizer="l1"), VECTORS),
    "constrained": (lambda: dense(kernel_constraint="unit_norm"), VECTORS),
    "shared layer": (shared, VECTORS),
    "nested": (nested, VECTORS),
    "subclassed with add_loss": (Subclassed, VECTORS),
    "frozen": (frozen, VECTORS),
    "convolution": (convolution, IMAGES),
    "embedding": (embedding, TOKENS),
    "recurrent": (recurrent, SERIES),
}
SGD, ADAM = keras.optimizers.SGD, keras.optimizers.Adam
OPTIMIZERS = {
    "clipnorm": lambda: SGD(0.1, clipnorm=0.1),
    "clipvalue": lambda: SGD(0.1, clipvalue=0.01),
    "global_clipnorm": lambda: SGD(0.1, global_clipnorm=0.1),
    "accumulation": lambda: SGD(0.1, gradient_accumulation_steps=2),
    "moving average": lambda: ADAM(0.01, use_ema=True, ema_overwrite_frequency=2),
    "weight decay": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(SGD(0.1)),
    "fixed loss scale": lambda: SGD(0.1, loss_scale_factor=512.0),
}
COMPILED = {"jit_compile": {"jit_compile": True}, "graph": {"jit_compile": False}, "eager": {"run_eagerly": True}}


def logged(make_model, x, optimizer, **compile_arguments):
    keras.utils.set_random_seed(1)
    model, logger = make_model(), GradientNormLogger()
    model.compile(optimizer, "mse", **compile_arguments)
    model.fit(x, TARGETS, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, callbacks=[logger])
    return logger


def twin(make_model, x, optimizer):
    """The norm of the whole gradient in each step of a hand-written loop."""
    keras.utils.set_random_seed(1)
    model, norms = make_model(), []
    for start in [*range(0, SIZE, BATCH)] * 2:
        with tf.GradientTape() as tape:
            outputs = model(x[start : start + BATCH], training=True)
            loss = tf.reduce_mean((TARGETS[start : start + BATCH] - outputs) ** 2)
            loss = optimizer.scale_loss(tf.add_n([loss, *model.losses]))
        gradients = tape.gradient(loss, model.trainable_variables)
        dense_gradients = [tf.cast(tf.convert_to_tensor(gradient), tf.float64) for gradient in gradients]
        norms.append(tf.linalg.global_norm(dense_gradients) / float(optimizer.scale_loss(1.0)))
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return np.array(norms)


@pytest.mark.parametrize("mode", COMPILED)
@pytest.mark.parametrize("kind", MODELS)
def test_models(kind, mode):
    make_model, x = MODELS[kind]
    logger = logged(make_model, x, SGD(0.1), **COMPILED[mode])
    np.testing.assert_allclose(logger.global_norms, twin(make_model, x, SGD(0.1)), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(logger.norms, axis=1), logger.global_norms, rtol=1e-6)


@pytest.mark.parametrize("mode", ["jit_compile", "graph"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers(kind, mode):
    logger = logged(dense, VECTORS, OPTIMIZERS[kind](), **COMPILED[mode])
    np.testing.assert_allclose(logger.global_norms, twin(dense, VECTORS, OPTIMIZERS[kind]()), rtol=2e-5)


@pytest.mark.parametrize("mode", ["jit_compile", "graph"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, mode):
    def mixed():
        return dense(dtype=policy)

    def scaled():
        return keras.optimizers.LossScaleOptimizer(SGD(0.1), initial_scale=1024.0) if "float16" in policy else SGD(0.1)

    logger = logged(mixed, VECTORS, scaled(), **COMPILED[mode])
    np.testing.assert_allclose(logger.global_norms, twin(mixed, VECTORS, scaled()), rtol=1e-2)


def test_a_frozen_layer_is_absent_and_a_thawed_one_appears():
    model, logger = frozen(), GradientNormLogger()
    names = [layer.name for layer in model.layers]
    for trainable, expected in ((False, names[1:]), (True, names)):
        model.layers[0].trainable = trainable
        model.compile("sgd", "mse")
        model.fit(VECTORS, TARGETS, verbose=0, callbacks=[logger])
        assert logger.layer_names == expected


class TwoOptimizers(Subclassed):
    """Each layer has an optimizer of its own, as in adversarial training."""

    def __init__(self):
        super().__init__()
        self.second = SGD(0.01)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        for optimizer, layer in ((self.optimizer, self.hidden), (self.second, self.head)):
            gradients = tape.gradient(loss, layer.trainable_variables)
            optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
        return {"loss": loss}


@pytest.mark.parametrize("mode", COMPILED)
def test_a_custom_step_with_two_optimizers(mode):
    logger = logged(TwoOptimizers, VECTORS, SGD(0.01), **COMPILED[mode])

    def without_added_loss():
        model = Subclassed()
        model.add_loss = lambda loss: None
        return model

    expected = twin(without_added_loss, VECTORS, SGD(0.01))
    np.testing.assert_allclose(logger.global_norms, expected, rtol=1e-5)
    assert logger.layer_names == ["dense", "dense_1"]


def test_several_losses_and_outputs():
    inputs = keras.Input((6,))
    hidden = LAYERS.Dense(4, "tanh", name="hidden")(inputs)
    model = keras.Model(inputs, [LAYERS.Dense(1, name="a")(hidden), LAYERS.Dense(2, name="b")(hidden)])
    logger = GradientNormLogger()
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 2.0, "b": 0.5})
    model.fit(VECTORS, {"a": TARGETS, "b": np.zeros((SIZE, 2))}, verbose=0, callbacks=[logger])
    assert logger.layer_names == ["hidden", "a", "b"]
    assert (logger.norms > 0).all()

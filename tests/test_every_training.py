"""The logger against a plain `GradientTape`, in the ways Keras can train; each twin is a hand-written loop."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate
from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.recording import quantities

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
    return keras.Sequential(
        [keras.Input((6,)), LAYERS.Dense(4, **first), LAYERS.Dense(1, dtype="float32")]
    )


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
    layers = [
        LAYERS.Conv2D(4, 3),
        LAYERS.BatchNormalization(),
        LAYERS.ReLU(),
        LAYERS.GlobalAveragePooling2D(),
    ]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, LAYERS.Dense(1)])


def embedding():
    return keras.Sequential(
        [keras.Input((7,), dtype="int32"), LAYERS.Embedding(5, 3), LAYERS.LSTM(4), LAYERS.Dense(1)]
    )


def recurrent():
    return keras.Sequential(
        [keras.Input((7, 2)), LAYERS.Bidirectional(LAYERS.GRU(4)), LAYERS.Dense(1)]
    )


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
COMPILED = {
    "jit_compile": {"jit_compile": True},
    "graph": {"jit_compile": False},
    "eager": {"run_eagerly": True},
}


def logged(make_model, x, optimizer, kind=None, **compile_arguments):
    keras.utils.set_random_seed(1)
    model, logger = make_model(), GradientNormLogger(kind=kind)
    model.compile(optimizer, "mse", **compile_arguments)
    model.fit(x, TARGETS, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, callbacks=[logger])
    return logger


def raw_gradients(make_model, x, optimizer):
    """The gradients in each step of a hand-written loop, free of loss scaling."""
    keras.utils.set_random_seed(1)
    model = make_model()
    for start in [*range(0, SIZE, BATCH)] * 2:
        with tf.GradientTape() as tape:
            outputs = model(x[start : start + BATCH], training=True)
            loss = tf.reduce_mean((TARGETS[start : start + BATCH] - outputs) ** 2)
            loss = optimizer.scale_loss(tf.add_n([loss, *model.losses]))
        gradients = tape.gradient(loss, model.trainable_variables)
        scale = float(optimizer.scale_loss(1.0))
        yield [
            tf.cast(tf.convert_to_tensor(gradient), tf.float64) / scale for gradient in gradients
        ]
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


def norms(gradients):
    """The norm of the whole gradient in each of those steps."""
    return np.array([tf.linalg.global_norm(step) for step in gradients])


@functools.cache
def twin_of_model(kind):
    """The loop on one of `MODELS`; its steps serve all modes."""
    return norms(raw_gradients(*MODELS[kind], SGD(0.1)))


@functools.cache
def twin_of_optimizer(kind):
    """The loop with one of `OPTIMIZERS`: its gradients serve all modes and both kinds of norm."""
    return list(raw_gradients(dense, VECTORS, OPTIMIZERS[kind]()))


def edges(kinds, *pairs, left_out=()):
    """Each kind in graph mode and these pairs of kind and mode; the whole product with `--all`."""
    chosen = {*pairs, *((kind, "graph") for kind in kinds if kind not in left_out)}
    return pytest.mark.parametrize(
        ("kind", "mode"),
        [
            pytest.param(kind, mode, marks=() if (kind, mode) in chosen else pytest.mark.slow)
            for kind in kinds
            for mode in COMPILED
        ],
    )


def some(kinds, *chosen):
    """These kinds; all with `--all`."""
    return pytest.mark.parametrize(
        "kind",
        [pytest.param(kind, marks=() if kind in chosen else pytest.mark.slow) for kind in kinds],
    )


@edges(MODELS, ("dense", "jit_compile"), ("convolution", "jit_compile"), ("dense", "eager"))
def test_models(kind, mode):
    make_model, x = MODELS[kind]
    logger = logged(make_model, x, SGD(0.1), **COMPILED[mode])
    np.testing.assert_allclose(logger.global_norms, twin_of_model(kind), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(logger.norms, axis=1), logger.global_norms, rtol=1e-6)


# The raw gradient does not depend on how it is clipped afterwards.
@edges(
    OPTIMIZERS,
    ("loss scaling", "jit_compile"),
    ("fixed loss scale", "eager"),
    left_out=("clipvalue", "global_clipnorm", "weight decay"),
)
def test_optimizers(kind, mode):
    logger = logged(dense, VECTORS, OPTIMIZERS[kind](), **COMPILED[mode])
    np.testing.assert_allclose(logger.global_norms, norms(twin_of_optimizer(kind)), rtol=2e-5)


@edges(["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(kind, mode):
    def mixed():
        return dense(dtype=kind)

    def scaled():
        return (
            keras.optimizers.LossScaleOptimizer(SGD(0.1), initial_scale=1024.0)
            if "float16" in kind
            else SGD(0.1)
        )

    logger = logged(mixed, VECTORS, scaled(), **COMPILED[mode])
    np.testing.assert_allclose(
        logger.global_norms, norms(raw_gradients(mixed, VECTORS, scaled())), rtol=1e-2
    )


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

    def optimizers(self):
        return self.optimizer, self.second

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        layers = (self.hidden, self.head)
        for optimizer, layer in zip(self.optimizers(), layers, strict=True):
            gradients = tape.gradient(loss, layer.trainable_variables)
            optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
        return {"loss": loss}


class OptimizersInADictionary(TwoOptimizers):
    """As before, with both in a dictionary."""

    def __init__(self):
        super().__init__()
        self.mine = {"hidden": SGD(0.01), "head": self.second}
        self.second = None

    def optimizers(self):
        return self.mine["hidden"], self.mine["head"]


class OptimizersInAList(OptimizersInADictionary):
    """As before, with both in a list."""

    def __init__(self):
        super().__init__()
        self.mine = list(self.mine.values())

    def optimizers(self):
        return self.mine


@edges([TwoOptimizers, OptimizersInADictionary, OptimizersInAList])
def test_a_custom_step_with_two_optimizers(kind, mode):
    logger = logged(kind, VECTORS, SGD(0.01), **COMPILED[mode])

    def without_added_loss():
        model = Subclassed()
        model.add_loss = lambda loss: None
        return model

    expected = norms(raw_gradients(without_added_loss, VECTORS, SGD(0.01)))
    np.testing.assert_allclose(logger.global_norms, expected, rtol=1e-5)
    assert logger.layer_names == ["dense", "dense_1"]


class WithoutVariables(TwoOptimizers):
    """An optimizer that was built for some variables needs none in its calls."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        variables = self.head.trainable_variables
        if not self.second.built:
            self.second.build(variables)
        self.second.apply(tape.gradient(loss, variables))
        return {"loss": loss}


def test_gradients_without_their_variables_are_one_clear_error():
    with pytest.raises(ValueError, match=r"2 gradients and without their variables, .* has 4"):
        logged(WithoutVariables, VECTORS, SGD(0.01))


def test_several_losses_and_outputs():
    inputs = keras.Input((6,))
    hidden = LAYERS.Dense(4, "tanh", name="hidden")(inputs)
    model = keras.Model(
        inputs, [LAYERS.Dense(1, name="a")(hidden), LAYERS.Dense(2, name="b")(hidden)]
    )
    logger = GradientNormLogger()
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 2.0, "b": 0.5})
    model.fit(VECTORS, {"a": TARGETS, "b": np.zeros((SIZE, 2))}, verbose=0, callbacks=[logger])
    first, *heads = logger.layer_names
    assert first == "hidden"
    assert sorted(heads) == ["a", "b"]  # Keras chooses which it calls first
    assert (logger.norms > 0).all()


class Applied:
    """What an optimizer's update of each variable is made with, computed by hand from the raw gradients."""

    def __init__(self, optimizer):
        self.optimizer, self.waiting = optimizer, []

    def norm(self, gradients):
        """The norm over all variables; NaN while gradients are only accumulated."""
        self.waiting.append(
            [np.array(tf.convert_to_tensor(gradient), "float64") for gradient in gradients]
        )
        if len(self.waiting) < (self.optimizer.gradient_accumulation_steps or 1):
            return np.nan
        means = [np.mean(parts, axis=0) for parts in zip(*self.waiting, strict=True)]
        self.waiting = []
        return np.sqrt(sum(np.sum(mean**2) for mean in self.clipped(means)))

    def clipped(self, tensors):
        optimizer, norms = self.optimizer, [np.linalg.norm(tensor) for tensor in tensors]
        if optimizer.clipvalue:
            return [
                np.clip(tensor, -optimizer.clipvalue, optimizer.clipvalue) for tensor in tensors
            ]
        if optimizer.clipnorm:
            return [t * min(1, optimizer.clipnorm / n) for t, n in zip(tensors, norms, strict=True)]
        factor = (
            min(1, optimizer.global_clipnorm / np.linalg.norm(norms))
            if optimizer.global_clipnorm
            else 1
        )
        return [tensor * factor for tensor in tensors]


@edges(OPTIMIZERS, ("accumulation", "jit_compile"), ("loss scaling", "eager"))
def test_applied_gradients(kind, mode):
    logger = logged(dense, VECTORS, OPTIMIZERS[kind](), "applied", **COMPILED[mode])
    optimizer = OPTIMIZERS[kind]()
    applied = Applied(getattr(optimizer, "inner_optimizer", optimizer))
    expected = [applied.norm(gradients) for gradients in twin_of_optimizer(kind)]
    np.testing.assert_allclose(logger.global_norms, expected, rtol=2e-5)
    assert logger.kind == logger.record.kind == "applied"


@some(MODELS, "dense", "shared layer", "subclassed with add_loss")
def test_applied_gradients_of_models(kind):
    make_model, x = MODELS[kind]
    applied = logged(make_model, x, SGD(0.1), "applied")
    np.testing.assert_allclose(applied.norms, logged(make_model, x, SGD(0.1)).norms, rtol=1e-5)


@edges(["raw", "applied"])
def test_a_step_that_loss_scaling_skips_is_not_finite_and_named(kind, mode):
    def overflowing():
        return keras.optimizers.LossScaleOptimizer(SGD(0.1), initial_scale=2.0**19)

    def model():
        return dense(dtype="mixed_float16")

    logger = logged(model, VECTORS, overflowing(), kind, **COMPILED[mode])
    skipped = ~np.isfinite(logger.global_norms)
    assert 0 < skipped.sum() < len(skipped)
    if kind == "raw":
        assert list(logger.record.nonfinite) == list(np.flatnonzero(skipped))
        assert set(logger.record.nonfinite.values()) == {"dense"}
    else:
        assert np.isnan(logger.norms[skipped]).all()
        assert logger.record.nonfinite == {}


@some(
    [kind for kind in MODELS if kind not in ("convolution", "regularised")],
    "nested",
    "subclassed with add_loss",
    "embedding",
)
def test_on_two_replicas_as_on_one_with_the_joined_batch(kind, two_replicas):
    make_model, x = MODELS[kind]
    with two_replicas.scope():
        logger = logged(make_model, x, SGD(0.1), jit_compile=False)
    assert logger.kind == "applied"
    np.testing.assert_allclose(logger.global_norms, twin_of_model(kind), rtol=1e-5)


UNCLIPPED = [
    kind
    for kind in OPTIMIZERS
    if "clip" not in kind and kind not in ("accumulation", "moving average")
]


@some(UNCLIPPED, "loss scaling")
def test_optimizers_on_two_replicas(kind, two_replicas):
    with two_replicas.scope():
        logger = logged(dense, VECTORS, OPTIMIZERS[kind](), jit_compile=False)
    np.testing.assert_allclose(logger.global_norms, norms(twin_of_optimizer(kind)), rtol=2e-5)


def test_every_quantity_on_two_replicas_as_on_one(two_replicas):
    records = []
    for scope in (tf.distribute.get_strategy().scope, two_replicas.scope):
        with scope():
            keras.utils.set_random_seed(1)
            layers = [
                LAYERS.Dense(8, "tanh", name="a"),
                LAYERS.ReLU(name="b"),
            ]
            model = keras.Sequential([keras.Input((6,)), *layers, LAYERS.Dense(1, name="c")])
            # Rehearsals need one replica; the rank is a mean of those of the replicas.
            names = [one for one in quantities.names() if not quantities.need_rehearsals([one])]
            names.remove("effective_rank")
            logger = GradientNormLogger(kind="applied", also=names)
            model.compile(ADAM(0.05), "mse", jit_compile=False)
        model.fit(
            VECTORS[:39], TARGETS[:39], batch_size=16, shuffle=False, verbose=0, callbacks=[logger]
        )
        records.append(logger.record)
    one, two = records
    assert one.columns == two.columns
    np.testing.assert_allclose(two.values[:2], one.values[:2], rtol=2e-4, atol=1e-6)
    # The last batch is of seven, four for one replica and three for the other. Keras gives both the
    # same weight.
    for quantity in ("activation_mean", "activation_variance", "activation_zeros", "dead_units"):
        np.testing.assert_allclose(two[quantity], one[quantity], rtol=2e-4, atol=1e-6)
    assert np.abs(two.norms[2] / one.norms[2] - 1).max() > 1e-3


def test_raw_gradients_of_several_replicas_are_refused(two_replicas):
    with two_replicas.scope(), pytest.raises(ValueError, match=r'2 replicas.*Use kind="applied"'):
        logged(dense, VECTORS, SGD(0.1), "raw", jit_compile=False)


def test_after_training_on_replicas_nothing_is_patched(two_replicas):
    with two_replicas.scope():
        keras.utils.set_random_seed(1)
        model, logger = dense(), GradientNormLogger(also="activations")
        model.compile(SGD(0.1), "mse", jit_compile=False)
    model.fit(VECTORS, TARGETS, verbose=0, callbacks=[logger])
    assert not {"apply", "update_step"} & set(vars(model.optimizer))
    assert not any("call" in vars(layer) for layer in model.layers)
    assert "train_step" not in vars(model)

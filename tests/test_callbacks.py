"""`GradientNormLogger` agrees with a plain `GradientTape` on the same batches and weights."""

import csv
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from products import edges

from keras_surrogate import Surrogate
from keras_surrogate.callbacks import GradientNormLogger, SurrogateAnnealing
from keras_surrogate.layers import SurrogateActivation

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 6)).astype("float32")
Y = RANDOM.integers(0, 3, 90)
BATCH = 20
STEPS = 5  # an epoch; the last batch is a short one


def squared_first_output(labels, outputs):
    return tf.square(outputs[:, 0] - tf.cast(tf.reshape(labels, [-1]), tf.float32))


LOSSES = {
    "crossentropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "square of the first output": lambda: squared_first_output,
}


def make_model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation=Surrogate("sigmoid", "tanh"), name="first"),
            keras.layers.Dense(8, name="second"),
            SurrogateActivation("sugar_bsilu"),
            keras.layers.BatchNormalization(name="normalization"),
            keras.layers.Dense(3, name="last"),
        ]
    )


@functools.cache
def twin_norms(optimizer, loss, epochs):
    """The global norm and one norm a layer for each step, from a hand-written loop."""
    model, optimizer, loss = make_model(), OPTIMIZERS[optimizer](), LOSSES[loss]()
    rows = []
    for start in [*range(0, len(X), BATCH)] * epochs:
        x, y = X[start : start + BATCH], Y[start : start + BATCH, np.newaxis]
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(y, model(x, training=True)))
        gradients = tape.gradient(value, model.trainable_variables)
        layers = [gradients[0:2], gradients[2:4], gradients[4:6], gradients[6:8]]
        rows.append([tf.linalg.global_norm(gradients), *map(tf.linalg.global_norm, layers)])
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return np.array(rows)


def fitted(
    logger,
    make_optimizer=lambda: keras.optimizers.SGD(0.1),
    loss=None,
    epochs=2,
    **compile_arguments,
):
    model = make_model()
    model.compile(make_optimizer(), loss or LOSSES["crossentropy"](), **compile_arguments)
    history = model.fit(
        X, Y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=[logger]
    )
    return model, history


MODES = {
    "auto": {},
    "jit_compile": {"jit_compile": True},
    "no jit_compile": {"jit_compile": False},
    "run_eagerly": {"run_eagerly": True},
    "steps_per_execution": {"steps_per_execution": 2},
    "steps_per_execution with jit_compile": {"steps_per_execution": 3, "jit_compile": True},
    "steps_per_execution run_eagerly": {"steps_per_execution": 2, "run_eagerly": True},
}
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "clipped": lambda: keras.optimizers.SGD(0.1, clipnorm=0.05),
}


@edges(("mode", "every"), MODES, [1, 3], ("steps_per_execution", 3))
def test_norms_are_those_of_a_plain_tape(mode, every):
    logger = GradientNormLogger(every)
    fitted(logger, **MODES[mode])
    expected = twin_norms("SGD", "crossentropy", 2)[::every]
    np.testing.assert_array_equal(logger.steps, np.arange(0, 2 * STEPS, every))
    np.testing.assert_allclose(logger.global_norms, expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(logger.norms, expected[:, 1:], rtol=1e-5)
    assert logger.layer_names == ["first", "second", "normalization", "last"]


@edges(("optimizer", "loss"), OPTIMIZERS, LOSSES)
def test_for_every_optimizer_and_loss(optimizer, loss):
    logger = GradientNormLogger()
    fitted(logger, OPTIMIZERS[optimizer], LOSSES[loss]())
    expected = twin_norms(optimizer, loss, 2)
    np.testing.assert_allclose(logger.norms, expected[:, 1:], rtol=1e-4)


def test_loss_scaling_is_undone():
    def scaled():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1024.0)

    logger = GradientNormLogger()
    fitted(logger, scaled)
    expected = twin_norms("SGD", "crossentropy", 2)
    np.testing.assert_allclose(logger.norms, expected[:, 1:], rtol=1e-4)


@pytest.mark.parametrize("mode", ["auto", "run_eagerly", "steps_per_execution"])
def test_training_is_the_same_with_and_without(mode):
    with_logger, _ = fitted(GradientNormLogger(2), **MODES[mode])
    without, _ = fitted(keras.callbacks.Callback(), **MODES[mode])
    for ours, plain in zip(with_logger.get_weights(), without.get_weights(), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-6, atol=1e-7)


def test_logs_reach_history_and_csv_and_hold_the_means_of_each_epoch(tmp_path):
    model, logger = make_model(), GradientNormLogger()
    model.compile("sgd", LOSSES["crossentropy"]())
    writer = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = model.fit(
        X, Y, batch_size=BATCH, epochs=2, verbose=0, callbacks=[logger, writer]
    ).history
    for column, name in enumerate(logger.layer_names):
        means = logger.norms[:, column].reshape(2, STEPS).mean(axis=1)
        np.testing.assert_allclose(history[f"gradient_norm/{name}"], means)
    np.testing.assert_allclose(
        history["gradient_norm/global"], logger.global_norms.reshape(2, STEPS).mean(axis=1)
    )
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["gradient_norm/global"]) == history["gradient_norm/global"][1]


def test_an_epoch_without_a_recorded_step_logs_nan():
    _, history = fitted(GradientNormLogger(every=11), epochs=3)
    np.testing.assert_array_equal(
        np.isnan(history.history["gradient_norm/global"]), [False, True, False]
    )


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_a_data_set_of_unknown_length():
    model, logger = make_model(), GradientNormLogger(2)
    model.compile("sgd", LOSSES["crossentropy"]())
    batches = tf.data.Dataset.from_generator(
        lambda: (
            (X[start : start + BATCH], Y[start : start + BATCH])
            for start in range(0, len(X), BATCH)
        ),
        output_signature=(tf.TensorSpec((None, 6)), tf.TensorSpec((None,), tf.int64)),
    )
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[logger])
    np.testing.assert_array_equal(logger.steps, [0, 2, 4, 6, 8])


def test_a_model_that_is_built_by_fit():
    model, logger = (
        keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(3)]),
        GradientNormLogger(),
    )
    model.compile("sgd", LOSSES["crossentropy"]())
    model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[logger])
    assert logger.norms.shape == (STEPS, 2)
    assert (logger.norms > 0).all()


def test_more_steps_than_the_buffer_holds():
    model, logger = make_model(), GradientNormLogger()
    model.compile("sgd", LOSSES["crossentropy"]())
    model.fit(X, Y, batch_size=1, epochs=4, verbose=0, callbacks=[logger])
    np.testing.assert_array_equal(logger.steps, np.arange(360))
    assert (logger.global_norms > 0).all()


def test_each_fit_starts_anew_without_compiling_the_step_again():
    model, logger = make_model(), GradientNormLogger()
    model.compile("sgd", LOSSES["crossentropy"]())
    for epochs in (2, 1):
        model.fit(X, Y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[logger])
        recording = logger._recorder.function
        assert len(logger.steps) == len(logger.norms) == len(logger.global_norms) == epochs * STEPS
    assert logger._recorder.function is recording


def test_nothing_stays_on_the_model():
    model, logger = make_model(), GradientNormLogger()
    model.compile("sgd", LOSSES["crossentropy"]())
    model.make_train_function()
    attributes, plain = set(vars(model)), model.train_function
    model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[logger])
    assert model.train_function is plain
    assert "train_step" not in vars(model)
    assert "apply" not in vars(model.optimizer)
    assert set(vars(model)) - attributes <= {"history", "stop_training", "_eval_epoch_iterator"}


class Interrupt(keras.callbacks.Callback):
    """Raises KeyboardInterrupt, as Ctrl-C does, after or before a given batch."""

    def __init__(self, hook):
        super().__init__()
        self._hook = hook
        setattr(self, hook, self._raise)

    def _raise(self, batch, logs=None):
        if batch == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])
def test_an_interruption_keeps_what_was_recorded_and_unpatches(hook):
    model, logger = make_model(), GradientNormLogger()
    model.compile("sgd", LOSSES["crossentropy"]())
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            X, Y, batch_size=BATCH, verbose=0, shuffle=False, callbacks=[logger, Interrupt(hook)]
        )
    completed = 3 if hook == "on_train_batch_begin" else 4
    np.testing.assert_array_equal(logger.steps, np.arange(completed))
    assert "train_step" not in vars(model)
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    assert not hasattr(model.train_function, "plain")
    model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[logger])
    assert len(logger.steps) == STEPS


def test_a_train_step_that_applies_nothing_is_pointed_out():
    class ByHand(keras.Sequential):
        def train_step(self, data):
            x, _ = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self(x) ** 2)
            for variable, gradient in zip(
                self.trainable_variables, tape.gradient(loss, self.trainable_variables), strict=True
            ):
                variable.assign_sub(0.1 * gradient)
            return {"loss": loss}

    model, logger = ByHand([keras.Input((6,)), keras.layers.Dense(3)]), GradientNormLogger()
    model.compile("sgd")
    with pytest.warns(UserWarning, match="without a call of optimizer.apply"):
        model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[logger])
    assert np.isnan(logger.norms).all()


def test_before_any_fit_the_record_is_empty():
    logger = GradientNormLogger()
    assert logger.layer_names == []
    assert logger.norms.shape == (0, 0)
    assert logger.steps.shape == logger.global_norms.shape == (0,)


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", None, True])
def test_every_must_be_a_positive_integer(every):
    with pytest.raises(ValueError, match="every must be an integer of at least 1, but is"):
        GradientNormLogger(every)


def test_a_model_that_is_not_compiled():
    logger = GradientNormLogger()
    logger.set_model(make_model())
    with pytest.raises(ValueError, match="compile"):
        logger.on_train_begin()


def test_two_loggers_on_one_model_are_refused():
    model = make_model()
    model.compile("sgd", LOSSES["crossentropy"]())
    with pytest.raises(ValueError, match="Two GradientNormLoggers"):
        model.fit(X, Y, verbose=0, callbacks=[GradientNormLogger(), GradientNormLogger()])


def annealed(schedule, callbacks=(), epochs=2, **compile_arguments):
    model, annealing = make_model(), SurrogateAnnealing(schedule)
    model.compile(keras.optimizers.SGD(0.1), LOSSES["crossentropy"](), **compile_arguments)
    arguments = {"batch_size": BATCH, "epochs": epochs, "shuffle": False, "verbose": 0}
    model.fit(X, Y, callbacks=[*callbacks, annealing], **arguments)
    return model, annealing


def layer_of(model):
    return next(layer for layer in model.layers if isinstance(layer, SurrogateActivation))


def test_annealing_follows_the_schedule_and_the_model_is_saved_with_it(tmp_path):
    seen = []

    def schedule(step):
        seen.append(step)
        return 1 - step / 10

    model, annealing = annealed(schedule)
    assert seen == list(range(2 * STEPS))
    assert annealing.blend == pytest.approx(0.1)
    assert layer_of(model).blend == pytest.approx(0.1)
    model.save(tmp_path / "model.keras")
    assert layer_of(keras.saving.load_model(tmp_path / "model.keras")).blend == pytest.approx(0.1)


def test_annealing_counts_the_steps_of_an_execution():
    seen = []
    annealed(lambda step: seen.append(step) or 0.5, epochs=1, steps_per_execution=2)
    assert seen == [0, 2, 4]


def test_annealing_continues_in_the_next_fit():
    seen = []
    model, annealing = annealed(lambda step: seen.append(step) or 0.5, epochs=1)
    model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[annealing])
    assert seen == list(range(2 * STEPS))


@edges(("mode", "share"), ["auto", "jit_compile", "run_eagerly", "steps_per_execution"], [0.0, 1.0])
def test_annealed_to_either_end_is_the_true_or_the_surrogate_training(share, mode):
    model, _ = annealed(lambda step: share, **MODES[mode])
    if share == 1:
        plain, _ = fitted(keras.callbacks.Callback(), **MODES[mode])
    else:
        plain = make_model()
        plain.layers[2].surrogate = plain.layers[2].surrogate.true()
        plain.compile(keras.optimizers.SGD(0.1), LOSSES["crossentropy"](), **MODES[mode])
        plain.fit(X, Y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_annealing_takes_keras_schedules_and_finds_layers_anywhere():
    inner = keras.Sequential(
        [keras.layers.Dense(4, activation=SurrogateActivation("sugar_bsilu", name="deep"))]
    )
    model = keras.Sequential([keras.Input((6,)), inner, keras.layers.Dense(3)])
    model.compile("sgd", LOSSES["crossentropy"]())
    annealing = SurrogateAnnealing(keras.optimizers.schedules.PolynomialDecay(1.0, 4, 0.0))
    model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[annealing])
    assert inner.layers[0].activation.blend == 0


def test_norms_where_the_loss_scale_grows():
    """The optimizer doubles its scale while it applies the third, the sixth ... gradient."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.0), initial_scale=8.0, dynamic_growth_steps=3
    )
    model.compile(optimizer, "mse")
    x = np.ones((8, 3), "float32")
    logger = GradientNormLogger(also="delta_norm")
    model.fit(x, x[:, :1], batch_size=1, verbose=0, callbacks=[logger])
    assert float(optimizer.dynamic_scale) == 32
    for quantity in ("gradient_norm", "delta_norm"):
        norms = logger.record[quantity]
        assert norms[0] > 0
        np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), 1e-6)


@pytest.mark.parametrize(
    ("optimizer", "compiled", "expected"),
    [
        # Updates of four batches each.
        ({"gradient_accumulation_steps": 4}, {}, [0, 0, 0, 0, 1, 1, 1, 1, 2]),
        # Executions of four steps; the last one of an epoch has one.
        ({}, {"steps_per_execution": 4}, [0, 4, 8]),
    ],
)
def test_annealing_counts_the_updates_of_the_optimizer(optimizer, compiled, expected):
    seen = []

    def schedule(step):
        seen.append(step)
        return 1.0

    model = keras.Sequential(
        [keras.Input((3,)), SurrogateActivation("sugar_bsilu"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.01, **optimizer), "mse", **compiled)
    x = np.ones((9, 3), "float32")
    annealing = SurrogateAnnealing(schedule)
    model.fit(x, x[:, :1], batch_size=1, verbose=0, callbacks=[annealing])
    assert seen == expected
    model.fit(x, x[:, :1], batch_size=1, verbose=0, callbacks=[annealing])
    assert seen[len(expected)] == int(model.optimizer.iterations) // 2


@pytest.mark.parametrize("order", [1, -1])
def test_annealing_and_logger_together(order):
    logger, annealing = GradientNormLogger(), SurrogateAnnealing(lambda step: 1 - step / 10)
    model = make_model()
    model.compile("sgd", LOSSES["crossentropy"]())
    model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[logger, annealing][::order])
    assert len(logger.steps) == STEPS


@pytest.mark.parametrize("schedule", [0.5, None, "linear"])
def test_a_schedule_must_be_callable(schedule):
    with pytest.raises(ValueError, match="schedule must be a callable"):
        SurrogateAnnealing(schedule)


def test_a_schedule_outside_its_range_and_a_model_without_layers_to_anneal():
    with pytest.raises(ValueError, match=r"blend must be from 0 to 1, but is 2\.0"):
        annealed(lambda step: 2.0)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(3, activation=Surrogate("relu", "softplus"))]
    )
    model.compile("sgd", LOSSES["crossentropy"]())
    with pytest.raises(ValueError, match="found no SurrogateActivation"):
        model.fit(X, Y, verbose=0, callbacks=[SurrogateAnnealing(lambda step: 1.0)])

"""`calibrate` and `Calibration`: equal norms, measured by taps that share no code with them."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import Surrogate, conversion, diagnosis, functions, layers
from keras_surrogate.callbacks import Calibration, GradientNormLogger
from keras_surrogate.diagnosis import widths
from keras_surrogate.diagnosis.surrogate_sites import sites
from keras_surrogate.functions import FastSigmoid
from keras_surrogate.layers import LIF, SurrogateActivation, SurrogateWeights

K = keras.layers
RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(32, 12)).astype("float32")
IMAGES = RANDOM.normal(size=(8, 16, 16, 3)).astype("float32")
SEQUENCES = RANDOM.normal(size=(16, 10, 12)).astype("float32")
Y = RANDOM.normal(size=(32, 3)).astype("float32")
SLOPE = Surrogate("relu", "sigmoid")


def mlp(surrogate=SLOPE, depth=6):
    hidden = [K.Dense(16, surrogate, name=f"hidden_{number}") for number in range(depth)]
    return keras.Sequential([keras.Input((12,)), *hidden, K.Dense(3)])


def cnn():
    inputs = x = keras.Input((16, 16, 3))
    for filters in (4, 8):
        x = K.Conv2D(filters, 3, activation=SLOPE, padding="same")(x)
        x = K.MaxPooling2D()(K.Conv2D(filters, 3, activation=SLOPE, padding="same")(x))
    return keras.Model(inputs, K.Dense(3)(K.Flatten()(x)))


def resnet():
    inputs = keras.Input((16, 16, 3))
    x = K.Conv2D(8, 3, padding="same")(inputs)
    for _ in range(3):
        branch = x
        for _ in range(2):
            branch = SurrogateActivation("relu", "sigmoid")(K.BatchNormalization()(branch))
            branch = K.Conv2D(8, 3, padding="same")(branch)
        x = x + branch
    x = K.GlobalAveragePooling2D()(SurrogateActivation("relu", "sigmoid")(x))
    return keras.Model(inputs, K.Dense(3)(x))


def attention():
    inputs = x = keras.Input((10, 12))
    for _ in range(2):
        x = K.LayerNormalization()(x + K.MultiHeadAttention(2, 6, dropout=0.1)(x, x))
        x = x + K.Dense(12)(K.Dense(24, Surrogate("gelu", "tanh"))(x))
    return keras.Model(inputs, K.Dense(3)(x[:, 0]))


def binary():
    stack = [
        (
            SurrogateWeights(K.Dense(16), "ste_sign", scale="mean_abs"),
            K.BatchNormalization(),
            SurrogateActivation("sign", "hard_tanh"),
        )
        for _ in range(4)
    ]
    return keras.Sequential([keras.Input((12,)), *sum(stack, ()), K.Dense(3)])


def spiking(steps=10, unroll=None):
    surrogate = Surrogate("step", FastSigmoid(25))
    stack = [
        (
            K.Dense(24, kernel_initializer=keras.initializers.VarianceScaling(3.0)),
            LIF(0.9, surrogate=surrogate, unroll=unroll),
        )
        for _ in range(3)
    ]
    outputs = [K.GlobalAveragePooling1D(), K.Dense(3)]
    return keras.Sequential([keras.Input((steps, 12)), *sum(stack, ()), *outputs])


def recurrent():
    cells = [K.SimpleRNN(8, Surrogate("tanh", "hard_tanh"), return_sequences=True)]
    cells += [K.SimpleRNN(8, Surrogate("sign", "tanh"))]
    return keras.Sequential([keras.Input((10, 12)), *cells, K.Dense(3)])


def recurrent_spikes():
    stack = [
        (
            K.Dense(12),
            K.RNN(layers.SpikingCell(12, layers.neurons.LIFNeuron()), return_sequences=True),
        )
        for _ in range(2)
    ]
    return keras.Sequential([keras.Input((10, 12)), *sum(stack, ()), K.Flatten(), K.Dense(3)])


def mobilenet():
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=3)
    return conversion.swap(model, {"relu6": Surrogate("relu6", "softplus")})


MODELS = {
    "mlp": (mlp, VECTORS),
    "cnn": (cnn, IMAGES),
    "resnet": (resnet, IMAGES),
    "attention": (attention, SEQUENCES),
    "binary": (binary, VECTORS),
    "spiking": (spiking, SEQUENCES),
    "a loop": (lambda: spiking(unroll=False), SEQUENCES),
    "recurrent": (recurrent, SEQUENCES),
    "recurrent spikes": (recurrent_spikes, SEQUENCES),
    "mobilenet": (mobilenet, np.tile(IMAGES, (1, 2, 2, 1))),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "mobilenet")) for name in MODELS],
)
def test_every_architecture(name):
    make, x = MODELS[name]
    keras.utils.set_random_seed(0)
    model = make()
    # Norms that differ much: a wide range of scales.
    for place, site in enumerate(sites(model)):
        site.put(site.surrogate.scaled(3.0 ** (-1) ** place))
    before = model.predict(x, verbose=0)
    weights = model.get_weights()
    calibrated = diagnosis.calibrate(model, x)
    report = diagnosis.calibration_report(calibrated)
    assert report.spread_before > 2
    assert report.spread_after < 1.25
    np.testing.assert_allclose(calibrated.predict(x, verbose=0), before, rtol=1e-5, atol=1e-6)
    for one, other in zip(weights, calibrated.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for family in ({"activation", "neuron"}, {"weights"}):
        norms = [one.after for one in report.outcomes if one.kind in family]
        assert not norms or max(norms) < 1.25 * min(norms)
    # The last one stays.
    assert report.outcomes[-1].factor == pytest.approx(1)
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def pre_activation_norms(model, x, y):
    """Norms of the gradients of the hidden pre-activations, by a plain tape and NumPy."""
    with tf.GradientTape() as tape:
        h = tf.constant(x)
        found = []
        for layer in model.layers:
            pre = h @ layer.kernel + layer.bias
            tape.watch(pre)
            found.append(pre)
            h = layer.activation(pre)
        loss = tf.reduce_mean(tf.square(h - y))
    return [np.linalg.norm(one.numpy()) for one in tape.gradient(loss, found)[:-1]]


def test_the_norms_are_those_of_a_tape():
    model = mlp()
    model.compile("sgd", "mse")
    calibrated = diagnosis.calibrate(model, VECTORS, Y)
    report = diagnosis.calibration_report(calibrated)
    before = pre_activation_norms(model, VECTORS, Y)
    after = pre_activation_norms(calibrated, VECTORS, Y)
    np.testing.assert_allclose([one.before for one in report.outcomes], before, rtol=1e-4)
    np.testing.assert_allclose([one.after for one in report.outcomes], after, rtol=1e-4)
    np.testing.assert_allclose(after, before[-1], rtol=1e-4)
    assert before[0] < 0.1 * before[-1]


def test_one_pass_is_enough_for_surrogates_that_are_called_once():
    calibrated = diagnosis.calibrate(resnet(), IMAGES, iterations=1)
    assert diagnosis.calibration_report(calibrated).spread_after == pytest.approx(1, rel=1e-4)


def test_it_is_saved_and_copied_with_the_optimizer(tmp_path):
    model = mlp()
    model.compile(keras.optimizers.Adam(), "mse")
    model.fit(VECTORS, Y, verbose=0)
    calibrated = diagnosis.calibrate(model, VECTORS, Y)
    for one, other in zip(model.optimizer.variables, calibrated.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    calibrated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    scales = [layer.activation.scale for layer in loaded.layers[:-1]]
    outcomes = diagnosis.calibration_report(calibrated).outcomes
    np.testing.assert_allclose(scales, [one.scale for one in outcomes])
    np.testing.assert_allclose(pre_activation_norms(loaded, VECTORS, Y)[0], outcomes[0].after, 1e-4)
    assert [layer.activation.scale for layer in model.layers[:-1]] == [1] * 6


@pytest.mark.parametrize("name", ["spiking", "binary", "recurrent spikes"])
def test_scales_of_weights_and_neurons_are_saved(name, tmp_path):
    make, x = MODELS[name]
    calibrated = diagnosis.calibrate(make(), x)
    calibrated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = diagnosis.calibration_report(diagnosis.calibrate(loaded, x))
    np.testing.assert_allclose([one.factor for one in again.outcomes], 1, rtol=0.25)


def test_chosen_layers_and_the_limit():
    model = mlp()
    calibrated = diagnosis.calibrate(model, VECTORS, layers=["hidden_0", "hidden_5"])
    scales = [layer.activation.scale for layer in calibrated.layers[:-1]]
    assert scales[1:] == [1] * 5 and scales[0] > 10
    calibrated = diagnosis.calibrate(model, VECTORS, limit=1.5)
    scales = [layer.activation.scale for layer in calibrated.layers[:-1]]
    assert scales == pytest.approx([1.5] * 5 + [1])


@pytest.mark.parametrize("name", ["spiking", "a loop"])
def test_wider_slopes(name):
    make, x = MODELS[name]
    model = make()
    before = model.predict(x, verbose=0)
    calibrated = diagnosis.calibrate(model, x, share=0.8)
    report = diagnosis.calibration_report(calibrated)
    assert report.spread_after < 1.25
    np.testing.assert_allclose(calibrated.predict(x, verbose=0), before, atol=1e-6)
    for layer, one in zip(calibrated.layers[1::2], report.outcomes, strict=False):
        backward = layer.neuron.surrogate.backward
        assert backward.k == pytest.approx(25 / one.width)
        assert one.width > 1.5
        assert 0.8 <= one.share < 0.82


def test_the_share_is_that_of_the_pre_activations():
    model = mlp(Surrogate("sign", functions.Boxcar(width=0.2)), depth=3)
    calibrated = diagnosis.calibrate(model, VECTORS, share=0.9)
    h = VECTORS
    for layer in calibrated.layers[:-1]:
        pre = h @ layer.kernel.numpy() + layer.bias.numpy()
        inside = np.abs(pre) <= layer.activation.backward.width / 2
        assert 0.9 <= inside.mean() < 0.92
        h = np.sign(pre)
    lines = str(diagnosis.calibration_report(calibrated)).splitlines()
    assert lines[0].split()[-2:] == ["width", "share"]


@pytest.mark.parametrize("surrogate", ["ste_sign", Surrogate("relu", "leaky_relu")])
def test_slopes_without_a_width_stay(surrogate):
    calibrated = diagnosis.calibrate(mlp(ks.get(surrogate)), VECTORS, share=0.99)
    for site, one in zip(sites(calibrated), sites(mlp(ks.get(surrogate))), strict=True):
        assert site.surrogate.backward == one.surrogate.backward
    assert all(one.width == 1 for one in diagnosis.calibration_report(calibrated).outcomes)


WIDTHS = {
    "fast_sigmoid": ("k", -1),
    "atan": ("alpha", -1),
    "boxcar": ("width", 1),
    "erf": ("alpha", -1),
    "scaled_sigmoid": ("alpha", -1),
    "exponential_spike": ("alpha", -1),
    "elu": None,
    "leaky_relu": None,
    "hard_tanh": None,
}


@pytest.mark.parametrize("name", WIDTHS)
def test_parameters_of_the_width(name):
    assert widths._width_parameter(functions.get(name)) == WIDTHS[name]


def test_the_report_is_readable():
    report = diagnosis.calibration_report(diagnosis.calibrate(mlp(depth=2), VECTORS))
    lines = str(report).splitlines()
    assert lines[0].split() == [
        "surrogate",
        "of",
        "calls",
        "norm",
        "before",
        "norm",
        "now",
        "factor",
        "scale",
    ]
    assert lines[1].split()[:3] == ["hidden_0", "activation", "1"]
    assert lines[-1].startswith("largest over smallest norm: ")
    assert "largest over smallest norm" in repr(report)


def test_a_part_without_gradient_is_left_alone():
    model = mlp(Surrogate("relu"), depth=3)
    for layer, bias in zip(model.layers, (-1e3, 1, 1), strict=False):
        layer.bias.assign(bias * np.ones(16))
    calibrated = diagnosis.calibrate(model, VECTORS)
    outcomes = diagnosis.calibration_report(calibrated).outcomes
    assert outcomes[0].before == outcomes[0].after == 0
    assert outcomes[0].factor == 1
    assert outcomes[1].after == pytest.approx(outcomes[2].after, rel=1e-4)


def test_mixed_precision_and_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = mlp()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("sgd", "mse")
    report = diagnosis.calibration_report(diagnosis.calibrate(model, VECTORS, Y))
    assert report.spread_after == pytest.approx(1, rel=0.02)
    plain = mlp()
    plain.set_weights(model.get_weights())
    plain.compile("sgd", "mse")
    other = diagnosis.calibration_report(diagnosis.calibrate(plain, VECTORS, Y))
    assert report.outcomes[-1].after == pytest.approx(other.outcomes[-1].after, rel=0.02)


@pytest.mark.parametrize(
    "arguments",
    [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 2}],
    ids=str,
)
def test_the_callback_keeps_the_norms_equal(arguments):
    model = mlp()
    model.compile(keras.optimizers.SGD(0.05), "mse", **arguments)
    callback = Calibration(VECTORS, Y, every=4)
    deltas = GradientNormLogger(also="delta_norm")
    model.fit(
        VECTORS, Y, batch_size=8, epochs=4, verbose=0, callbacks=[callback, deltas], shuffle=False
    )
    assert [step for step, _ in callback.reports] == [0, 4, 8, 12]
    for _, report in callback.reports:
        assert report.spread_after == pytest.approx(1, rel=1e-3)
    assert callback.reports[0][1].spread_before > 10
    assert callback.reports[1][1].spread_before < 10
    # The model after it has the scales as constants.
    scales = [layer.activation.scale for layer in model.layers[:-1]]
    assert scales == [one.scale for one in callback.reports[-1][1].outcomes]
    assert [layer.activation.backward for layer in model.layers[:-1]] == [SLOPE.backward] * 6


def test_the_compiled_step_uses_the_new_scales():
    """One step of plain SGD after the calibration is the step of a calibrated model."""
    model = mlp()
    model.compile(keras.optimizers.SGD(0.05), "mse")
    calibrated = diagnosis.calibrate(model, VECTORS, Y)
    model.fit(VECTORS, Y, batch_size=32, verbose=0, callbacks=[Calibration(VECTORS, Y)])
    calibrated.fit(VECTORS, Y, batch_size=32, verbose=0)
    for one, other in zip(model.get_weights(), calibrated.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    # The same, in the next training without the callback.
    model.fit(VECTORS, Y, batch_size=32, verbose=0)
    calibrated.fit(VECTORS, Y, batch_size=32, verbose=0)
    for one, other in zip(model.get_weights(), calibrated.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_file_saved_in_between_has_the_scales(tmp_path):
    model = mlp()
    model.compile(keras.optimizers.SGD(0.05), "mse")
    path = tmp_path / "model.keras"
    callbacks = [Calibration(VECTORS, Y), keras.callbacks.ModelCheckpoint(path)]
    model.fit(VECTORS, Y, verbose=0, callbacks=callbacks)
    loaded = keras.saving.load_model(path)
    scales = [[layer.activation.scale for layer in one.layers[:-1]] for one in (loaded, model)]
    assert scales[0] == scales[1] and scales[0][0] > 1


@pytest.mark.parametrize("name", ["spiking", "a loop", "binary", "recurrent"])
def test_the_callback_on_other_models(name):
    make, x = MODELS[name]
    model = make()
    y = np.zeros((len(x), 3), "float32") + 1
    model.compile(keras.optimizers.SGD(0.01), "mse")
    callback = Calibration(x, y, every=1, iterations=6)
    model.fit(x, y, batch_size=len(x), epochs=2, verbose=0, callbacks=[callback])
    assert [step for step, _ in callback.reports] == [0, 1]
    assert all(report.spread_after < 1.3 for _, report in callback.reports)


def test_a_training_without_gradient_is_warned_of():
    model = mlp()
    model.compile(keras.optimizers.SGD(0.05), "mse")

    def kill(batch, logs):
        model.layers[5].bias.assign(-1e6 * np.ones(16))
        model.layers[5].activation.backward.gain.variable.assign(0.0)

    callbacks = [
        Calibration(VECTORS, Y, every=1),
        keras.callbacks.LambdaCallback(on_train_batch_end=kill),
    ]
    with pytest.warns(UserWarning, match="hidden_5, is 0, .* The scales stay for now"):
        model.fit(VECTORS, Y, batch_size=16, verbose=0, callbacks=callbacks)
    assert len(callbacks[0].reports) == 1


def test_an_error_in_fit_leaves_nothing_behind():
    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("stop")

    model = mlp()
    model.compile("sgd", "mse")
    callback = Calibration(VECTORS, Y)
    with pytest.raises(RuntimeError, match="stop"):
        model.fit(VECTORS, Y, verbose=0, callbacks=[callback, Stops()])
    model.fit(VECTORS, Y, verbose=0, callbacks=[callback])
    assert len(callback.reports) == 1
    assert callback.reports[0][1].spread_before < 1.5
    assert model.layers[0].activation.scale > 1


def test_copies_and_pickles():
    callback = Calibration(VECTORS, Y, every=7)
    model = mlp()
    model.compile("sgd", "mse")
    model.fit(VECTORS, Y, verbose=0, callbacks=[callback])
    assert copy.deepcopy(callback).every == pickle.loads(pickle.dumps(callback)).every == 7


class TrainedByHand(keras.Model):
    """A model whose class creates its surrogate."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one = K.Dense(4, SLOPE)
        self.two = K.Dense(4, SLOPE)
        self.head = K.Dense(3)

    def call(self, x):
        return self.head(self.two(self.one(x)))


def test_a_class_that_creates_its_surrogates_is_warned_of():
    model = TrainedByHand()
    model(VECTORS)
    with pytest.warns(UserWarning, match="a .keras file creates the old ones"):
        calibrated = diagnosis.calibrate(model, VECTORS)
    assert diagnosis.calibration_report(calibrated).spread_after == pytest.approx(1, rel=1e-3)


def without_surrogates():
    return keras.Sequential([keras.Input((12,)), K.Dense(4, "relu"), K.Dense(3)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: diagnosis.calibrate("model", VECTORS), "calibrate: model must be a Keras model"),
        (
            lambda: diagnosis.calibrate(without_surrogates(), VECTORS),
            "calibrate: the model has no surrogates",
        ),
        (lambda: diagnosis.calibrate(mlp(), VECTORS[:0]), "calibrate: x is empty"),
        (lambda: diagnosis.calibrate(mlp(), VECTORS, Y), "calibrate: y was given, but the model"),
        (lambda: diagnosis.calibrate(mlp(), IMAGES), "calibrate: the model.* cannot be called"),
        (lambda: diagnosis.calibrate(mlp(), VECTORS, layers="hiden"), "no layer 'hiden'"),
        (lambda: diagnosis.calibrate(mlp(), VECTORS, tolerance=1), "tolerance must be a number"),
        (lambda: diagnosis.calibrate(mlp(), VECTORS, iterations=0), "iterations must be an int"),
        (lambda: diagnosis.calibrate(mlp(), VECTORS, limit=0.5), "limit must be a number above 1"),
        (
            lambda: diagnosis.calibrate(mlp(Surrogate("relu", "relu", 0.0)), VECTORS),
            "the gradient behind the last surrogate, hidden_5, is 0",
        ),
        (lambda: diagnosis.calibrate(mlp(), VECTORS, share=1.5), "share must be above 0 and below"),
        (lambda: diagnosis.calibration_report(mlp()), "calibrate did not return it"),
        (lambda: Calibration(VECTORS, every=0), "Calibration: every must be an integer"),
        (lambda: Calibration(VECTORS, tolerance=0.9), "Calibration: tolerance must be"),
        (lambda: Calibration(VECTORS).calibrate(), "call it within fit"),
        (lambda: fit_plain(), "Calibration: the model has no surrogates"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def fit_plain():
    model = without_surrogates()
    model.compile("sgd", "mse")
    model.fit(VECTORS, Y, verbose=0, callbacks=[Calibration(VECTORS, Y)])

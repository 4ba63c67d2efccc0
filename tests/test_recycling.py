"""`RecycleUnits`: which weights begin anew, which become 0, and what is refused."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest

from keras_surrogate.callbacks import RecycleUnits
from keras_surrogate.layers import SurrogateActivation, SurrogateWeights
from keras_surrogate.optimizers import Bop, LayerRates

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 8, 8, 2)).astype("float32")
Y = RANDOM.normal(size=(64, 2)).astype("float32")
FLAT = X.reshape(64, -1)


def mlp(activation="relu", units=6):
    return keras.Sequential(
        [
            keras.Input((128,)),
            keras.layers.Dense(units, activation, name="first"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(5, activation, name="second"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def cnn():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            SurrogateActivation("relu", "leaky_relu", name="relu"),
            keras.layers.MaxPooling2D(name="pool"),
            keras.layers.Conv2D(3, 3, activation="relu", name="conv_2"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def kill(layer, units):
    """Make units 0 for every input."""
    bias = np.array(layer.bias)
    bias[units] = -1e3
    layer.bias.assign(bias)


def fit(model, callback, optimizer=None, x=FLAT, steps=1, **arguments):
    model.compile(optimizer or keras.optimizers.SGD(0.0), "mse", **arguments)
    model.fit(x, Y, batch_size=64 // steps, shuffle=False, verbose=0, callbacks=[callback])
    return callback


def test_incoming_weights_are_new_and_outgoing_ones_0():
    model = mlp()
    kill(model.layers[0], [1, 4])
    kernel, _ = model.layers[0].get_weights()
    outgoing = model.layers[2].kernel.numpy()
    before = model.predict(FLAT, verbose=0)
    callback = fit(model, RecycleUnits(FLAT, every=1, threshold=0.0, seed=0))
    assert callback.recycled == [(1, "first", (1, 4))]
    assert callback.refused == {}
    new_kernel, new_bias = model.layers[0].get_weights()
    changed = (new_kernel != kernel).all(axis=0)
    assert changed.tolist() == [False, True, False, False, True, False]
    assert new_bias.tolist() == [0] * 6
    # As Keras's initializer draws them.
    assert abs(new_kernel[:, 1]).max() <= np.sqrt(6 / (128 + 6))
    new_outgoing = model.layers[2].kernel.numpy()
    assert (new_outgoing[[1, 4]] == 0).all()
    np.testing.assert_array_equal(new_outgoing[[0, 2, 3, 5]], outgoing[[0, 2, 3, 5]])
    # Dead units contributed nothing.
    np.testing.assert_array_equal(model.predict(FLAT, verbose=0), before)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_dormant_units_of_any_activation(activation):
    model = mlp(activation)
    kernel = model.layers[0].kernel.numpy()
    model.layers[0].kernel.assign(kernel * [1, 1, 1e-3, 1, 1, 1])
    callback = fit(model, RecycleUnits(FLAT, every=1))
    assert [(one.layer, one.units) for one in callback.recycled] == [("first", (2,))]


def test_two_calls_draw_other_weights():
    columns = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = mlp()
        callback = RecycleUnits(FLAT, every=1, threshold=0.0, seed=len(columns))
        kill(model.layers[0], [1])
        fit(model, callback)
        columns.append(model.layers[0].kernel.numpy()[:, 1])
    assert (columns[0] != columns[1]).all()


def test_convolutions_normalisation_pooling_and_flatten():
    model = cnn()
    norm, conv, second, head = (model.get_layer(n) for n in ("norm", "conv", "conv_2", "head"))
    norm.beta.assign([0.1, 0.1, -50, 0.1])
    norm.moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    kill(second, [1])
    before = conv.kernel.numpy(), second.kernel.numpy(), head.kernel.numpy()
    outputs = model.predict(X, verbose=0)
    model.trainable = False
    model.trainable = True
    callback = fit(model, RecycleUnits(X, every=1, threshold=0.0), x=X)
    assert [(one.layer, one.units) for one in callback.recycled] == [
        ("conv", (2,)),
        ("conv_2", (1,)),
    ]
    changed = (conv.kernel.numpy() != before[0]).all(axis=(0, 1, 2))
    assert changed.tolist() == [False, False, True, False]
    assert norm.beta.numpy()[2] == norm.moving_mean.numpy()[2] == 0
    assert norm.gamma.numpy()[2] == norm.moving_variance.numpy()[2] == 1
    assert norm.beta.numpy()[[0, 1, 3]].tolist() == [np.float32(0.1)] * 3
    assert (second.kernel.numpy()[:, :, 2] == 0).all()
    # The channel of the second convolution has the places 1, 4, 7, ... of the flattened inputs.
    zeros = (head.kernel.numpy() == 0).all(axis=1)
    assert np.flatnonzero(zeros).tolist() == list(range(1, 12, 3))
    # The step itself moved the averages of the normalisation, so outputs differ only by them.
    assert outputs.shape == (64, 2)


def test_several_readers():
    inputs = keras.Input((128,))
    shared = keras.layers.Dense(6, "relu", name="shared")(inputs)
    one = keras.layers.Dense(3, name="one")(shared)
    other = keras.layers.Dense(4, "tanh", name="other")(keras.layers.Dropout(0.5)(shared))
    outputs = keras.layers.Dense(2, name="head")(keras.layers.Concatenate()([one, other]))
    model = keras.Model(inputs, outputs)
    kill(model.get_layer("shared"), [3])
    with pytest.warns(UserWarning, match="leaves out 1 layer.*other: concatenate"):
        callback = fit(model, RecycleUnits(FLAT, every=1, threshold=0.0))
    assert [one.units for one in callback.recycled] == [(3,)]
    for name in ("one", "other"):
        kernel = model.get_layer(name).kernel.numpy()
        assert (kernel[3] == 0).all() and (kernel[[0, 1, 2, 4, 5]] != 0).all()


def test_a_layer_that_is_called_twice_is_dormant_for_both():
    left, right = keras.Input((128,)), keras.Input((128,))
    tower = keras.layers.Dense(6, "relu", name="tower")
    head = keras.layers.Dense(2, name="head")
    outputs = keras.layers.Add()([head(tower(left)), head(tower(right))])
    model = keras.Model([left, right], outputs)
    kill(model.get_layer("tower"), [0])
    callback = RecycleUnits([FLAT, -FLAT], every=1, threshold=0.0)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit([FLAT, -FLAT], Y, batch_size=64, verbose=0, callbacks=[callback])
    assert [one.units for one in callback.recycled] == [(0,)]
    assert (head.kernel.numpy()[0] == 0).all()


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "momentum": lambda: keras.optimizers.SGD(0.01, 0.9),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01, initial_accumulator_value=0.25),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "ema": lambda: keras.optimizers.SGD(0.01, 0.9, use_ema=True, ema_momentum=0.5),
    "rates": lambda: LayerRates(keras.optimizers.Adam(0.01), {"first": 0.5}),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01, initial_accumulator_value=0.25),
}
if hasattr(keras.optimizers, "Muon"):  # Keras 3.10 and later.
    OPTIMIZERS["muon"] = lambda: keras.optimizers.Muon(0.01, exclude_layers=["head"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_the_optimizer_begins_anew(name):
    model = mlp()
    # Dormant, and yet with a gradient.
    model.layers[0].kernel.assign(model.layers[0].kernel.numpy() * [1, 1e-4, 1, 1, 1, 1])
    model.layers[0].bias.assign([0, 1e-4, 0, 0, 0, 0])
    optimizer = OPTIMIZERS[name]()
    steps = 4 if name == "accumulation" else 2
    fit(model, RecycleUnits(FLAT, every=2, layers="first", threshold=1e9), optimizer, steps=steps)
    # Every unit of the first layer began anew, so all slots of its weights did.
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    # All weights have different shapes. Old versions of Keras give some slots no other name.
    weights = {tuple(one.shape): one for one in model.trainable_variables}
    begun_anew = [*model.get_layer("first").trainable_variables, model.get_layer("second").kernel]
    seen = 0
    for slot in optimizer.variables:
        weight = weights.get(tuple(slot.shape))
        if weight is None:
            continue
        is_sum = name in ("adagrad", "ftrl") and slot.path.endswith("accumulator")
        initial = 0.25 if is_sum else 0.0
        if any(weight is one for one in begun_anew):
            seen += 1
            expected = np.array(weight) if slot.path.endswith("_average") else initial
            np.testing.assert_array_equal(slot.numpy(), np.broadcast_to(expected, slot.shape))
        elif name != "accumulation":
            assert np.any(slot.numpy() != initial)
    assert seen >= 3
    assert (model.get_layer("second").kernel.numpy() == 0).all()


@pytest.mark.parametrize("arguments", [{"steps_per_execution": 2}, {"run_eagerly": True}], ids=str)
def test_every_few_steps(arguments):
    model = mlp()
    history = []
    callback = RecycleUnits(FLAT, every=4, threshold=0.0)
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: history.append(logs["recycled_units"])
    )
    model.compile(keras.optimizers.SGD(0.0), "mse", **arguments)
    kill(model.layers[0], [0])
    model.fit(FLAT, Y, batch_size=8, epochs=2, verbose=0, callbacks=[callback, log])
    assert [one.step for one in callback.recycled] == [4]
    assert history == [1, 0]


def test_training_goes_on_and_the_unit_learns():
    keras.utils.set_random_seed(0)
    model = mlp()
    kill(model.layers[0], [0])
    fit(model, RecycleUnits(FLAT, every=2, threshold=0.0), keras.optimizers.Adam(0.01), steps=8)
    assert (model.get_layer("second").kernel.numpy()[0] != 0).all()


def test_copies_and_pickles():
    callback = fit(mlp(), RecycleUnits(FLAT, every=1))
    assert copy.deepcopy(callback).every == 1
    assert pickle.loads(pickle.dumps(callback)).threshold == 0.025


def residual():
    inputs = keras.Input((128,))
    x = keras.layers.Dense(6, "relu", name="first")(inputs)
    y = keras.layers.Dense(6, "relu", name="branch")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x + y))


def normalised():
    return keras.Sequential(
        [
            keras.Input((128,)),
            keras.layers.Dense(6, name="first"),
            keras.layers.LayerNormalization(name="norm"),
            keras.layers.ReLU(),
            keras.layers.Dense(2),
        ]
    )


def shared_activation():
    relu = keras.layers.ReLU(name="relu")
    inputs = keras.Input((128,))
    x = relu(keras.layers.Dense(6, name="first")(inputs))
    x = relu(keras.layers.Dense(6, name="second")(x))
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))


def wrapped():
    return keras.Sequential(
        [
            keras.Input((128,)),
            keras.layers.Dense(6, "relu", name="first"),
            SurrogateWeights(keras.layers.Dense(2, name="binary"), "ste_sign"),
        ]
    )


@pytest.mark.parametrize(
    ("make", "frozen", "refused"),
    [(mlp, "first", ["first"]), (mlp, "head", ["second"]), (cnn, "norm", ["conv"])],
)
def test_frozen_weights_stay(make, frozen, refused):
    model = make()
    model.get_layer(frozen).trainable = False
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            kill(layer, [0, 1])
    before = [np.array(weight) for weight in model.get_layer(frozen).weights[:2]]
    x = FLAT if make is mlp else X
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RecycleUnits leaves out")
        callback = fit(model, RecycleUnits(x, every=1), x=x)
    for name in refused:
        assert callback.refused[name] == f"{frozen} is frozen (trainable=False)"
    for one, other in zip(before, model.get_layer(frozen).weights[:2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "layers", "message"),
    [
        (residual, "first", "an operation between layers reads its outputs"),
        (residual, "branch", "an operation between layers reads its outputs"),
        (normalised, "first", r"norm \(LayerNormalization\) reads its outputs"),
        (shared_activation, "first", "relu is shared"),
        (wrapped, "first", r"binary \(SurrogateWeights\) reads its outputs"),
        (wrapped, None, "no layer of the model has units .*SurrogateWeights"),
        (mlp, "frist", "has no layer 'frist' .* There are: first, second"),
        (mlp, "head", "has no layer 'head'"),
    ],
)
def test_what_cannot_be_handled_is_refused(make, layers, message):
    model = make()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        fit(model, RecycleUnits(FLAT, every=1, layers=layers))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecycleUnits(FLAT, every=0), "every must be an integer of at least 1"),
        (lambda: RecycleUnits(FLAT, threshold=-0.1), "threshold must be at least 0, but is -0.1"),
        (lambda: RecycleUnits(FLAT, threshold=np.nan), "threshold must be at least 0"),
        (lambda: RecycleUnits(FLAT).recycle(), "call it within fit"),
        (lambda: fit(mlp(), RecycleUnits(FLAT[:0])), "x is empty"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bop_is_refused():
    model = keras.Sequential(
        [
            keras.Input((128,)),
            SurrogateWeights(keras.layers.Dense(6, name="binary"), "ste_sign"),
            keras.layers.Dense(6, "relu", name="first"),
            keras.layers.Dense(2),
        ]
    )
    kill(model.get_layer("first"), [0])
    with pytest.raises(ValueError, match="the state of Bop"):
        fit(model, RecycleUnits(FLAT, every=1, layers="first"), Bop())

"""Planted faults are found and named, with the right layer and advice; in healthy models nothing is found."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from products import edges

import keras_surrogate as ks
from keras_surrogate import datasets, diagnosis, presets, thresholds
from keras_surrogate.diagnosis import advice, plain_stack
from keras_surrogate.recording import names

L = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LARGE = keras.initializers.RandomNormal(stddev=1.0)

every_seed = pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


X = normal(128, 64)


def digits():
    data = datasets.load("digits")
    return data.x_train[:128].reshape(-1, 64), data.y_train[:128]


def mlp(activation, depth, initializer="he_normal", seed=0, optimizer="sgd", width=64):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((64,))])
    for number in range(1, depth + 1):
        weights = keras.initializers.get(initializer).clone()
        model.add(L.Dense(width, activation, kernel_initializer=weights, name=f"hidden_{number}"))
    model.add(L.Dense(10, name="output"))
    model.compile(optimizer, LOSS)
    return model


def planted(model, layer, change):
    """The model with the kernel and bias of one layer changed."""
    kernel, bias = model.get_layer(layer).get_weights()
    model.get_layer(layer).set_weights(change(kernel, bias))
    return model


def found(model, x=X, y=None, seed=0):
    return {
        finding.kind: finding for finding in diagnosis.diagnose(model, x, y, seed=seed).findings
    }


def words(finding):
    return str(finding)


def resnet(seed, blocks=4, width=16):
    keras.utils.set_random_seed(seed)

    def convolved(x):
        x = L.ReLU()(L.BatchNormalization()(x))
        return L.Conv2D(width, 3, padding="same", kernel_initializer="he_normal")(x)

    inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(width, 3, padding="same", kernel_initializer="he_normal")(inputs)
    for _ in range(blocks):
        x = L.Add()([x, convolved(convolved(x))])
    x = L.GlobalAveragePooling2D()(L.ReLU()(L.BatchNormalization()(x)))
    model = keras.Model(inputs, L.Dense(10)(x))
    model.compile("sgd", LOSS)
    return model


@every_seed
@pytest.mark.parametrize(("depth", "width"), [(2, 16), (3, 64), (20, 64)])
def test_nothing_is_found_in_a_he_relu_network(seed, depth, width):
    x, y = digits()
    assert found(mlp("relu", depth, seed=seed, width=width), X, seed=seed) == {}
    model = mlp("relu", depth, seed=seed, optimizer="adam", width=width)
    assert found(model, x, y) == {}
    assert found(model, x[:16], y[:16]) == {}


@every_seed
@pytest.mark.parametrize(
    ("activation", "initializer"),
    [
        ("tanh", "lecun_normal"),
        ("selu", "lecun_normal"),
        ("gelu", "he_normal"),
        ("elu", "he_normal"),
        ("relu6", "he_normal"),
        ("hard_tanh", "glorot_uniform"),
        (ks.get("leaky_backward", negative_slope=0.1), "he_normal"),
        (ks.Surrogate("tanh", scale=1.1), "lecun_normal"),
    ],
)
def test_nothing_is_found_with_other_healthy_activations(activation, initializer, seed):
    assert found(mlp(activation, 5, initializer, seed)) == {}


@every_seed
@pytest.mark.parametrize("centred", [True, False])
def test_nothing_is_found_in_a_residual_network(seed, centred):
    """Also where the images are all positive, because batch normalisation centres what comes of them."""
    x = normal(32, 16, 16, 3) if centred else np.random.default_rng(0).random((32, 16, 16, 3))
    model = resnet(seed)
    assert found(model, x, seed=seed) == {}
    assert found(model, x, np.arange(32) % 10) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "ResNet50V2", "MobileNetV2"])
def test_nothing_is_found_in_known_architectures(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert found(model, normal(32, 64, 64, 3), np.arange(32) % 10) == {}


@every_seed
def test_a_dead_layer(seed):
    model = planted(
        mlp("relu", 4, seed=seed), "hidden_3", lambda kernel, bias: (kernel, bias - 100)
    )
    (finding,) = found(model).values()
    assert (finding.kind, finding.layer, finding.value, finding.severity) == (
        "dead_units",
        "hidden_3",
        1,
        3,
    )
    assert (
        "100% of the units of hidden_3" in finding.message
        and "no gradient passes this layer" in finding.message
    )
    text = words(finding)
    order = [
        text.index(word)
        for word in ("with ReLU", "leaky_relu or elu", "cheaper", "PReLU", "BatchNorm")
    ]
    assert order == sorted(order)
    assert "only with much data" in text and "arXiv:1511.07289" in text
    assert "outgoing weights of a dead unit get no gradient" in text


def test_a_layer_that_is_dead_but_has_a_surrogate_may_revive():
    model = planted(
        mlp(ks.get("leaky_backward"), 4), "hidden_3", lambda kernel, bias: (kernel, bias - 100)
    )
    finding = found(model)["dead_units"]
    assert finding.layer == "hidden_3" and "may recover" in finding.advice[0]
    assert "no gradient passes this layer" not in finding.message
    assert not any("leaky_backward" in line for line in finding.advice)


def test_most_units_dead_in_a_layer_of_its_own():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), L.Dense(50, name="linear"), L.ReLU(name="relu"), L.Dense(3)]
    )
    model.get_layer("linear").bias.assign([-100.0] * 40 + [0.0] * 10)
    finding = found(model)["dead_units"]
    assert (finding.layer, finding.severity) == ("relu", 2)
    assert finding.value == pytest.approx(0.8)


@every_seed
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softsign"])
def test_a_saturated_layer(seed, activation):
    model = planted(
        mlp(activation, 4, "glorot_uniform", seed),
        "hidden_2",
        lambda kernel, bias: (200 * kernel, bias),
    )
    finding = found(model)["saturated"]
    assert (finding.layer, finding.layers) == ("hidden_2", ("hidden_2",))
    assert finding.value > 0.6 and activation in finding.message


@every_seed
def test_a_saturated_stack_and_the_weights_that_mend_it(seed):
    (finding,) = found(mlp("tanh", 5, LARGE, seed)).values()
    assert finding.kind == "saturated"
    assert finding.layers == tuple(f"hidden_{number}" for number in range(1, 6))
    assert "sigma_w**2 = fan_in * Var(W) = 1;" in finding.advice[0]
    assert found(mlp("tanh", 5, ks.initializers.CriticalNormal("tanh"), seed)) == {}


def test_a_sigmoid_at_the_output_may_be_saturated():
    model = keras.Sequential([keras.Input((64,)), L.Dense(1, "sigmoid", kernel_initializer=LARGE)])
    assert "saturated" not in found(model)


@every_seed
def test_exploding_initial_weights(seed):
    finding = found(mlp("relu", 4, LARGE, seed))["exploding_signal"]
    assert (finding.layer, finding.layers) == (
        "hidden_1",
        tuple(f"hidden_{number}" for number in range(1, 5)),
    )
    assert finding.value > 1e5
    assert 'CriticalNormal("relu"), or "he_normal"' in finding.advice[0]
    assert "such layers" in finding.prediction


@every_seed
def test_one_layer_that_makes_the_signal_explode(seed):
    model = planted(
        mlp("relu", 4, seed=seed), "hidden_3", lambda kernel, bias: (100 * kernel, bias)
    )
    finding = found(model)["exploding_signal"]
    assert finding.layers == ("hidden_3",)
    assert 3e3 < finding.value < 1e5


@every_seed
def test_a_collapsed_signal_and_no_backward_trick_against_it(seed):
    x, y = digits()
    for model in (
        mlp("sigmoid", 20, "glorot_uniform", seed),
        mlp(ks.Surrogate("sigmoid", "tanh"), 20, "glorot_uniform", seed),
    ):
        (finding,) = found(model, x, y).values()
        assert (finding.kind, finding.severity) == ("collapsed_signal", 3)
        number = int(finding.layer.removeprefix("hidden_"))
        assert 6 <= number <= 8 and len(finding.layers) == 22 - number
        assert finding.value < thresholds.COLLAPSED
        assert "A surrogate does not help" in finding.advice[0]
        assert not re.search(r"balance|scale=|flat_spot", words(finding))
        predicted = int(re.search(r"From layer (\d+) on", finding.prediction).group(1))
        assert abs(predicted - number) <= 1


@pytest.mark.parametrize(
    "make", [lambda: np.abs(X), lambda: np.random.default_rng(0).random((128, 64)), lambda: X - 5]
)
def test_inputs_that_are_not_centred(make):
    for seed in range(3):
        (finding,) = found(mlp("relu", 3, seed=seed), make(), seed=seed).values()
        assert (finding.kind, finding.layer, finding.severity) == ("uncentred", "hidden_1", 1)
        assert finding.value > 0.7 and "zig-zag" in finding.message
        assert "Normalization" in finding.advice[0]


def test_normalised_in_the_model_inputs_need_not_be_centred():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), L.BatchNormalization(), L.Dense(64, "relu"), L.Dense(3)]
    )
    assert found(model, np.abs(X)) == {}


@every_seed
def test_a_vanishing_gradient_and_what_is_measured_to_help(seed):
    x, y = digits()
    model = mlp("sigmoid", 5, "glorot_uniform", seed)
    finding = found(model, x, y)["vanishing_gradient"]
    assert (finding.layer, finding.severity) == ("hidden_1", 2)
    assert finding.value < 5e-3
    assert re.search(
        r"in 5 such layers of infinite width.* 0\.00\d+ times that of the last hidden",
        finding.prediction,
    )
    assert 'CriticalNormal("sigmoid")' in finding.advice[0]
    scale = float(re.search(r'Surrogate\("sigmoid", scale=([\d.]+)\)', words(finding)).group(1))
    assert scale == pytest.approx(4.2, abs=0.2)
    assert "flat_spot" not in words(finding)
    for mended in (ks.Surrogate("sigmoid", scale=scale), "sigmoid"):
        weights = (
            "glorot_uniform" if mended != "sigmoid" else ks.initializers.CriticalNormal("sigmoid")
        )
        assert "vanishing_gradient" not in found(mlp(mended, 5, weights, seed), x, y)


def test_no_surrogate_is_advised_where_the_optimizer_rescales_gradients():
    x, y = digits()
    finding = found(mlp("sigmoid", 5, "glorot_uniform", optimizer="adam"), x, y)[
        "vanishing_gradient"
    ]
    assert "Surrogate(" not in words(finding)
    assert "rescales gradients" in finding.message


@every_seed
def test_the_vanishing_gradient_of_relu_with_glorots_weights(seed):
    (finding,) = found(mlp("relu", 30, "glorot_uniform", seed)).values()
    assert finding.kind == "vanishing_gradient" and finding.layer == "hidden_1"
    assert "he_normal" in finding.advice[0]
    assert not re.search(r"Surrogate\(|by ReLU", words(finding))


@every_seed
def test_a_surrogate_that_explodes_and_loses_its_direction(seed):
    kinds = found(mlp(ks.get("sugar_bsilu"), 30, seed=seed))
    assert set(kinds) == {"exploding_gradient", "misaligned"}
    exploding, misaligned = kinds["exploding_gradient"], kinds["misaligned"]
    assert exploding.layer == "hidden_1" and exploding.value > 300
    scale = float(re.search(r"scale=(\d\.\d+)", exploding.advice[0]).group(1))
    assert scale == pytest.approx(0.77, abs=0.06)
    assert misaligned.value < thresholds.LOST and "hidden_1" in misaligned.layers
    assert "Balancing does not help" in misaligned.advice[-1]
    balanced = found(mlp(ks.get("sugar_bsilu").scaled(scale), 30, seed=seed))
    assert set(balanced) == {"misaligned"}


def test_a_reversed_gradient_is_meant():
    assert found(mlp(ks.get("gradient_reversal"), 1)) == {}


@pytest.mark.parametrize(
    ("activation", "pairs"), [("step", "superspike"), ("sign", "ste_sign"), ("round", None)]
)
def test_a_slope_of_zero_ends_the_gradient(activation, pairs):
    finding = found(mlp(ks.Surrogate(activation), 3))["zero_gradient"]
    assert (finding.layer, finding.severity) == ("hidden_3", 3)
    assert (
        f'ks.get("{pairs}")' in finding.advice[0]
        if pairs
        else "straight through" in finding.advice[0]
    )
    model = keras.Sequential(
        [keras.Input((64,)), L.Dense(8), L.Activation(tf.sign, name="sign"), L.Dense(3)]
    )
    assert found(model)["zero_gradient"].layer == "sign"


def test_layers_without_any_gradient():
    @keras.saving.register_keras_serializable("tests")
    class Cut(L.Layer):
        def call(self, x):
            return tf.stop_gradient(x)

    model = keras.Sequential([keras.Input((64,)), L.Dense(8, name="before"), Cut(), L.Dense(3)])
    (finding,) = found(model).values()
    assert (finding.kind, finding.layer) == ("stopped_gradient", "before")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite(number):
    def change(kernel, bias):
        kernel[3, 5] = number
        return kernel, bias

    (finding,) = found(planted(mlp("relu", 4), "hidden_2", change)).values()
    assert (finding.kind, finding.layers, finding.severity) == (
        "nonfinite_weights",
        ("hidden_2",),
        3,
    )


def test_a_signal_that_overflows():
    model = planted(mlp("relu", 4), "hidden_2", lambda kernel, bias: (kernel * 1e38, bias))
    (finding,) = found(model).values()
    assert (finding.kind, finding.layer) == ("nonfinite_signal", "hidden_2")


def test_a_gradient_that_is_not_finite():
    model = keras.Sequential(
        [keras.Input((64,)), L.Dense(8, "relu", name="first"), L.Lambda(tf.sqrt), L.Dense(3)]
    )
    (finding,) = found(model).values()
    assert (finding.kind, finding.layer) == ("nonfinite_gradient", "first")


@pytest.mark.parametrize("number", [0.0, 0.1])
def test_weights_that_are_all_equal(number):
    model = planted(mlp("relu", 4), "hidden_2", lambda kernel, bias: (0 * kernel + number, bias))
    finding = next(iter(found(model).values()))
    assert (finding.kind, finding.layers) == ("constant_weights", ("hidden_2",))


@pytest.mark.parametrize("x", [np.repeat(X[:1], 32, axis=0), np.ones((32, 64)), np.zeros((32, 64))])
def test_a_batch_of_equal_examples(x):
    (finding,) = found(mlp("relu", 4), x).values()
    assert (finding.kind, finding.layer, finding.layers) == ("identical_inputs", None, ())


@pytest.mark.parametrize(
    ("rate", "kind"), [(100.0, "large_update"), (1e-9, "small_update"), (0.01, None)]
)
def test_the_size_of_the_next_step_counts_only_with_a_loss(rate, kind):
    x, y = digits()
    model = mlp("relu", 3, optimizer=keras.optimizers.SGD(rate))
    assert set(found(model, x, y)) == ({kind} if kind else set())
    assert found(model, x) == {}


def test_the_theory_is_asked_about_plain_stacks_alone():
    def stack(model, x=X):
        result = diagnosis.diagnose(model, x)
        layers = names.layers_by_name(model)
        return plain_stack.plain(layers, result.batch, result.rows), result

    found_stack, result = stack(mlp("relu", 3))
    assert found_stack.surrogate == ks.Surrogate("relu") and found_stack.depth == 3
    assert found_stack.weight_variance == pytest.approx(2, rel=0.1)
    assert found_stack.input_variance == pytest.approx(1, rel=0.05)
    assert found_stack.input_correlation == 1 - result.batch.spread
    separate = [
        layer
        for _ in range(3)
        for layer in (L.Dense(64, kernel_initializer="he_normal"), L.LeakyReLU(0.1))
    ]
    leaky = stack(keras.Sequential([keras.Input((64,)), *separate, L.Dropout(0.1), L.Dense(3)]))[0]
    assert leaky.surrogate == ks.Surrogate(ks.functions.get("leaky_relu", negative_slope=0.1))
    assert stack(resnet(0), normal(8, 16, 16, 3))[0] is None
    mixed = keras.Sequential(
        [keras.Input((64,)), L.Dense(8, "relu"), L.Dense(8, "tanh"), L.Dense(3)]
    )
    assert stack(mixed)[0] is None
    assert (
        stack(planted(mlp("relu", 3), "hidden_2", lambda kernel, bias: (9 * kernel, bias)))[0]
        is None
    )


def test_the_gravest_comes_first_and_every_finding_has_its_number_and_advice():
    models = {
        "saturated": planted(
            mlp("sigmoid", 5, "glorot_uniform"),
            "hidden_4",
            lambda kernel, bias: (200 * kernel, bias),
        ),
        "not centred": mlp("sigmoid", 5, "glorot_uniform"),
        "misaligned": mlp(ks.get("sugar_bsilu"), 30),
    }
    for model in models.values():
        findings = diagnosis.diagnose(model, X + 3).findings
        assert len(findings) > 1
        severities = [finding.severity for finding in findings]
        assert severities == sorted(severities, reverse=True)
        for finding in findings:
            assert (
                finding.advice
                and finding.layer in finding.message
                and re.search(r"\d", finding.message)
            )


def test_no_advice_names_what_measurements_speak_against():
    texts = [
        text for text in vars(advice).values() if isinstance(text, str) and text != advice.__doc__
    ]
    assert not any("flat_spot" in text for text in texts)
    for name in re.findall(r'ks\.get\("(\w+)"', " ".join([*texts, *advice.REVIVE])):
        assert name in presets.names()


def functional(*layers, inputs=(64,), dtype=None, loss="mse"):
    """A compiled model of layers one after the other, with an Input of its own dtype."""
    keras.utils.set_random_seed(0)
    start = keras.Input(inputs, dtype=dtype, name="start")
    x = start
    for layer in layers:
        x = layer(x)
    model = keras.Model(start, x)
    model.compile("sgd", loss)
    return model


class Applying(L.Layer):
    """A layer that applies a function, and has no weights."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


class Quantised(L.Dense):
    """A Dense layer with something done to its kernel."""

    def __init__(self, units, quantise, **kwargs):
        super().__init__(units, **kwargs)
        self.quantise = quantise

    def call(self, x):
        return self.activation(tf.matmul(x, self.quantise(self.kernel.value)) + self.bias)


class Between(keras.Model):
    """Two layers with a function between them that is in no layer, and one whose output is dropped."""

    def __init__(self, function=None, drops=False):
        super().__init__()
        self.first, self.second = L.Dense(8, name="first"), L.Dense(3, name="second")
        self.function, self.dropped = function, L.Dense(4, name="dropped") if drops else None

    def call(self, x):
        x = self.first(x)
        if self.dropped:
            self.dropped(x)
        return self.second(x if self.function is None else self.function(x))


def all_zero(kernel):
    """Ternary weights whose threshold is above all weights, with a straight-through slope."""
    return (
        tf.stop_gradient(tf.sign(kernel) * tf.cast(tf.abs(kernel) > 9, kernel.dtype) - kernel)
        + kernel
    )


@pytest.mark.parametrize(
    "function",
    [
        tf.round,
        tf.sign,
        lambda x: tf.cast(x > 0, tf.float32),
        lambda x: tf.one_hot(tf.argmax(x, -1), 8),
        lambda x: tf.cast(tf.cast(10 * x, tf.int32), tf.float32) / 10,
    ],
)
@pytest.mark.parametrize("between", [False, True])
def test_a_slope_of_zero_is_named_with_its_place(function, between):
    if between:
        finding = found(Between(function))["zero_gradient"]
        assert "between first and second" in finding.message and finding.layers == ("first",)
    else:
        model = functional(L.Dense(8, name="before"), Applying(function, name="cut"), L.Dense(3))
        finding = found(model)["zero_gradient"]
        assert (
            finding.layer == "cut" and "at cut" in finding.message and "before" in finding.message
        )
    assert finding.severity == 3 and "slope" in finding.advice[0]


@pytest.mark.parametrize("between", [False, True])
def test_a_stopped_gradient(between):
    if between:
        finding = found(Between(tf.stop_gradient))["stopped_gradient"]
        assert "between first and second" in finding.message
    else:
        model = functional(
            L.Dense(8, name="first"), Applying(tf.stop_gradient, name="cut"), L.Dense(3)
        )
        finding = found(model)["stopped_gradient"]
        assert "stop_gradient" in finding.message and "at cut" in finding.message
    assert finding.layer == "first" and "freeze" in finding.advice[0]


@pytest.mark.parametrize("function", [None, tf.nn.relu])
def test_a_layer_whose_output_is_not_used(function):
    """Also where operations between layers hide what goes where; and the weights tried are put back to the bit."""
    model = Between(function, drops=True)
    model(X)
    before = model.get_weights()
    (finding,) = found(model).values()
    assert all(
        np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True)
    )
    assert (finding.kind, finding.layers) == ("unused_layer", ("dropped",))
    assert "no output of the model depends on it" in finding.message


def test_a_layer_that_is_never_called():
    class Forgetful(Between):
        def __init__(self):
            super().__init__()
            self.forgotten = L.Dense(8, name="forgotten")
            self.forgotten.build((None, 64))

    (finding,) = found(Forgetful()).values()
    assert (finding.kind, finding.layer) == ("unused_layer", "forgotten")
    assert "never called" in finding.message


def test_an_input_that_is_all_zero():
    finding = found(
        functional(Applying(tf.zeros_like, name="zeros"), L.Dense(8, name="first"), L.Dense(3))
    )["zero_input"]
    assert finding.layer == "first" and "from zeros" in finding.message


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("first", [True, False])
def test_a_kernel_whose_quantised_value_is_zero(activation, first):
    layers = [
        Quantised(8, all_zero, activation=activation, name="ternary"),
        L.Dense(8, name="after"),
        L.Dense(3),
    ]
    finding = found(functional(*([] if first else [L.Dense(8, name="before")]), *layers))[
        "zero_kernel"
    ]
    assert finding.layer == "ternary" and finding.severity == 3
    assert "threshold" in finding.advice[0]


@pytest.mark.parametrize("quantise", [tf.sign, tf.round, lambda kernel: tf.round(4 * kernel) / 4])
def test_a_slope_of_zero_on_the_weights(quantise):
    finding = found(functional(Quantised(8, quantise, name="binary"), L.Dense(3)))[
        "zero_weight_slope"
    ]
    assert (finding.layer, finding.severity) == ("binary", 3)
    assert 'ks.get("ste_sign")' in finding.advice[0]
    straight = ks.get("ste_sign") if quantise is tf.sign else ks.Surrogate("round", "linear")
    assert "zero_weight_slope" not in found(
        functional(Quantised(8, straight, name="binary"), L.Dense(3))
    )


def test_all_gradients_are_zero_where_the_output_is_dead():
    model = functional(
        L.Dense(8, "relu"), L.Dense(1, "relu", bias_initializer=keras.initializers.Constant(-99))
    )
    finding = found(model, X, np.ones(128))["dead_output"]
    assert finding.layer == "dense_1" and "linear" in finding.advice[0]


def test_all_gradients_are_zero_where_the_loss_is_flat():
    model = functional(L.Dense(8, "relu"), L.Dense(1), loss=lambda y, output: 0 * output)
    finding = found(model, X, np.ones(128))["no_loss_gradient"]
    assert finding.layer == "dense_1" and "loss" in finding.advice[1]


def test_healthy_models_of_the_same_kinds_have_no_such_finding():
    class ReZero(L.Layer):
        def build(self, shape):
            self.inner = L.Dense(shape[-1])
            self.inner.build(shape)
            self.scale = self.add_weight(shape=(), initializer="zeros", name="scale")

        def call(self, x):
            return x + self.scale * self.inner(x)

    last = L.BatchNormalization(gamma_initializer="zeros")
    zero_gamma = keras.Input((64,))
    branch = last(L.Dense(64)(zero_gamma))
    models = [
        Between(tf.nn.relu),
        functional(L.Dense(8), ReZero(), L.Dense(3)),
        keras.Model(zero_gamma, L.Dense(3)(zero_gamma + branch)),
        functional(L.Dense(8), Applying(ks.get("ste_sign")), L.Dense(3)),
        functional(L.Dense(8, trainable=False), L.Dense(3)),
        functional(L.Reshape((8, 8)), L.LSTM(8), L.Dense(3)),
    ]
    lora = functional(L.Dense(8, name="adapted"), L.Dense(3))
    lora.get_layer("adapted").enable_lora(2)
    for model in [*models, lora]:
        assert found(model) == {}, model.layers


IDS = np.random.default_rng(1).integers(9000, 10000, (64, 20))


class OwnEmbedding(L.Layer):
    """Token ids are looked up within a layer of a user's own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Embedding(10_000, 16)

    def call(self, ids):
        return self.inner(ids)


def text_model(embedding, dtype=None):
    return functional(
        embedding, L.GlobalAveragePooling1D(), L.Dense(2), inputs=(20,), dtype=dtype, loss=LOSS
    )


@pytest.mark.parametrize("embedding", [lambda: L.Embedding(10_000, 16), OwnEmbedding])
@pytest.mark.parametrize(
    "ids", [IDS, IDS.astype("float32"), 1 + 0 * IDS + np.arange(64)[:, np.newaxis] % 2]
)
@pytest.mark.parametrize("dtype", [None, "int32"])
def test_token_ids_are_no_features(embedding, ids, dtype):
    """Also where keras.Input has no dtype, so that they come as floats."""
    result = diagnosis.diagnose(text_model(embedding(), dtype), ids, np.arange(64) % 2)
    assert result.findings == ()
    assert (
        result.batch.mean is None
        and result.batch.largest_feature is None
        and result.batch.others_differ
    )


def test_token_ids_in_a_layer_of_keras_hub():
    hub = pytest.importorskip("keras_hub")
    assert (
        found(
            text_model(hub.layers.TokenAndPositionEmbedding(10_000, 20, 16)), IDS, np.arange(64) % 2
        )
        == {}
    )


def test_the_same_token_ids_in_every_example_are_found():
    assert "identical_inputs" in found(
        text_model(L.Embedding(10_000, 16)), np.repeat(IDS[:1], 32, axis=0)
    )


def mixed(join, normalise=False):
    """Token ids and three real features: in two inputs, or in one array of both."""
    keras.utils.set_random_seed(0)
    if join:
        start = keras.Input((8,), name="all")
        ids, features = start[:, :5], start[:, 5:]
    else:
        start = [keras.Input((5,), name="ids"), keras.Input((3,), name="prices")]
        ids, features = start
    x = L.Flatten()(L.Embedding(10_000, 4)(ids))
    features = L.BatchNormalization()(features) if normalise else features
    return keras.Model(start, L.Dense(2)(L.Dense(16, "relu")(L.Concatenate()([x, features]))))


@pytest.mark.parametrize("join", [True, False])
def test_features_beside_token_ids_are_judged(join):
    ids, features = IDS[:, :5].astype("float32"), normal(64, 3)

    def given(features):
        return np.concatenate([ids, features], axis=1) if join else [ids, features]

    assert found(mixed(join), given(features)) == {}
    uncentred = found(mixed(join), given(features + 5))["uncentred"]
    assert "model's inputs are not centred" in uncentred.message
    large = found(mixed(join), given(features * np.array([1, 1e4, 1], "float32")))["feature_scale"]
    assert ("feature 6" if join else "prices have very different sizes: feature 1") in large.message
    assert (
        found(mixed(join, normalise=True), given(features * np.array([1, 1e4, 1], "float32") + 5))
        == {}
    )
    assert "identical_inputs" not in found(mixed(join), given(0 * features + 1))


def trained(model, x, y, optimizer=None, epochs=20, loss="mse"):
    keras.utils.set_random_seed(0)
    model.compile(optimizer or keras.optimizers.Adam(0.003), loss)
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0)
    return model.predict(x, verbose=0)


def regression(last=None, bias="zeros"):
    return functional(
        L.Dense(32, "relu"),
        L.Dense(1, last, bias_initializer=bias, name="price"),
        inputs=(8,),
        loss="mse",
    )


def explained(y, predicted):
    return 1 - np.mean((predicted[:, 0] - y) ** 2) / np.var(y)


def test_targets_far_too_large_and_what_helps(everything):
    x = normal(256, 8)
    y = x[:, 0] - x[:, 1] * x[:, 2]
    prices = 200_000 + 80_000 * y
    finding = found(regression(), x, prices)["target_scale"]
    assert finding.severity == 3 and finding.value > 1000 and finding.layer is None
    assert re.search(
        r"mean 2\d\d,\d00, standard deviation \d+,\d00.*at first \(mean -?0\.", finding.message
    )
    assert "Standardise the targets" in finding.advice[0] and len(finding.advice) == 1
    standard = (prices - prices.mean()) / prices.std()
    assert "target_scale" not in found(regression(), x, standard)
    if not everything:
        return
    assert explained(prices, trained(regression(), x, prices)) < 0
    assert (
        explained(prices, trained(regression(), x, standard) * prices.std() + prices.mean()) > 0.5
    )


def test_targets_far_from_0_and_a_bias_that_helps(everything):
    x = normal(256, 8)
    y = 500 + x[:, 0] - x[:, 1] * x[:, 2]
    finding = found(regression(), x, y)["target_scale"]
    assert finding.severity == 2 and "bias of the last layer, price" in finding.advice[1]
    bias = keras.initializers.Constant(
        float(re.search(r"Constant\((.*?)\)", finding.advice[1]).group(1))
    )
    assert found(regression(bias=bias), x, y) == {}
    if not everything:
        return
    assert (
        explained(y, trained(regression(), x, y))
        < 0
        < explained(y, trained(regression(bias=bias), x, y))
    )


def test_targets_of_one_of_several_outputs():
    start = keras.Input((8,))
    x = L.Dense(16, "relu")(start)
    model = keras.Model(start, {"price": L.Dense(1)(x), "kind": L.Dense(3)(x)})
    model.compile("adam", {"price": "mse", "kind": LOSS})
    (finding,) = found(
        model, normal(64, 8), {"price": 2e5 + 1e5 * normal(64, 1), "kind": np.arange(64) % 3}
    ).values()
    assert finding.kind == "target_scale" and "The targets of price (mean" in finding.message


def test_targets_by_name_of_a_list_of_outputs():
    """A dictionary is sorted by its keys, and the outputs are not."""
    start = keras.Input((8,))
    x = L.Dense(16, "relu")(start)
    large = L.Rescaling(1.0, 1000.0, name="alpha")(L.Dense(1)(x))
    model = keras.Model(start, [L.Dense(1, name="zeta")(x), large])
    model.compile("adam", {"zeta": "mse", "alpha": "mse"})
    y = {"zeta": normal(64, 1), "alpha": 1000 + normal(64, 1)}
    assert "target_scale" not in found(model, normal(64, 8), y)
    assert (
        "targets of zeta"
        in found(model, normal(64, 8), {**y, "zeta": 1e6 + 1e6 * y["zeta"]})["target_scale"].message
    )


def test_an_output_that_is_saturated_gets_no_gradient_and_no_surrogate():
    far = keras.initializers.Constant(1e3)
    model = functional(L.Dense(8, "relu"), L.Dense(1, "sigmoid", bias_initializer=far), inputs=(8,))
    finding = found(model, normal(64, 8), np.arange(64) % 2)["zero_gradient"]
    assert (
        finding.layer == "dense_1"
        and "from_logits" in finding.advice[0]
        and "ks." not in words(finding)
    )


def test_targets_far_too_small():
    x = normal(256, 8)
    finding = found(regression(), x, 1e-4 * x[:, 0])["target_scale"]
    assert finding.severity == 3 and finding.value < 1e-3 and "differ far less" in finding.message


def test_images_of_bytes_against_a_sigmoid():
    images = np.random.default_rng(0).integers(0, 256, (64, 12))
    model = functional(L.Dense(4, "relu"), L.Dense(12, "sigmoid", name="pixels"), inputs=(12,))
    finding = found(model, images / 255, images)["target_scale"]
    assert "outputs of sigmoid at pixels are between 0 and 1 only" in finding.message
    assert "target_scale" not in found(model, images / 255, images / 255)


@pytest.mark.parametrize(
    ("units", "loss", "y"),
    [
        (1, "binary_crossentropy", np.arange(64) % 2),
        (1, "hinge", 2 * (np.arange(64) % 2) - 1),
        (500, "categorical_crossentropy", np.eye(500)[:64]),
        (500, "kl_divergence", np.full((64, 500), 1 / 500)),
        (500, LOSS, np.arange(64)),
        (1, "mse", np.arange(64) % 10),
        (1, "mse", np.linspace(0, 1, 64)),
        (1, "mse", np.full(64, 3.0)),
    ],
)
def test_labels_probabilities_and_ordinary_targets_are_no_fault(units, loss, y):
    assert "target_scale" not in found(
        functional(L.Dense(units), inputs=(8,), loss=loss), normal(64, 8), y
    )


def classifier(width, *first):
    return functional(*first, L.Dense(32, "relu"), L.Dense(3), inputs=(width,), loss=LOSS)


def test_a_feature_far_too_large_and_what_helps(everything):
    x = normal(256, 8)
    y = (x[:, 0] > 0) + (x[:, 1] > 0).astype(int)
    large = x * np.array([1, 1, 1, 1e4, 1, 1, 1, 1], "float32")
    finding = found(classifier(8), large, y)["feature_scale"]
    assert (finding.severity, finding.layer) == (2, None) and 5e3 < finding.value < 2e4
    assert re.search(
        r"input start .*feature 3 has a root mean square of \d+,?\d* *.*feature \d, (0\.9|1)",
        finding.message,
    )
    assert "Normalization" in finding.advice[0]
    scaled = L.Normalization()
    scaled.adapt(large)
    for first in (scaled, L.BatchNormalization(), L.LayerNormalization()):
        assert "feature_scale" not in found(classifier(8, first), large, y)
    assert "feature_scale" in found(classifier(8, L.Rescaling(1 / 100)), large, y)
    if not everything:
        return
    sgd = keras.optimizers.SGD
    before, after = (
        np.mean(np.argmax(trained(model, large, y, sgd(0.1), loss=LOSS), axis=1) == y)
        for model in (classifier(8), classifier(8, scaled))
    )
    assert before < 0.6 < 0.8 < after


def feature_sets():
    sklearn = pytest.importorskip("sklearn.datasets")
    generator = np.random.default_rng(0)
    raw = {name: getattr(sklearn, f"load_{name}")().data for name in ("digits", "diabetes", "iris")}
    spread = {name: getattr(sklearn, f"load_{name}")().data for name in ("breast_cancer", "wine")}
    standard = {
        f"{name} standardised": (x - x.mean(axis=0)) / x.std(axis=0) for name, x in spread.items()
    }
    strokes = np.zeros((256, 28, 28))
    strokes[:, 4:24, 4:24] = generator.random((256, 20, 20)) * (
        generator.random((256, 20, 20)) < 0.3
    )
    strokes[0, 2, 2] = 0.01
    words = generator.poisson(20 / np.arange(1, 501), (256, 500))
    return {
        **raw,
        **standard,
        "strokes": strokes.reshape(256, -1),
        "words": words,
        "one-hot": np.eye(50)[generator.zipf(1.5, 256) % 50],
        "one-hot and age": np.c_[
            np.eye(3)[generator.integers(0, 3, 256)], generator.normal(40, 12, 256)
        ],
        "normal": generator.standard_normal((256, 20)),
    }


def test_features_of_ordinary_sets_are_no_fault_and_raw_measurements_are():
    for name, x in feature_sets().items():
        assert "feature_scale" not in found(classifier(x.shape[1]), x[:256]), name
    sklearn = pytest.importorskip("sklearn.datasets")
    for x in (sklearn.load_breast_cancer().data, sklearn.load_wine().data):
        assert "feature_scale" in found(classifier(x.shape[1]), x)


def test_one_feature_and_images_have_nothing_to_compare():
    assert "feature_scale" not in found(classifier(1), 1e4 * normal(64, 1))
    assert "feature_scale" not in found(
        resnet(0), 255 * np.random.default_rng(0).random((8, 16, 16, 3))
    )


HAS_ALREADY = r"BatchNormalization before|residual connections|he_normal|Use initial weights"


@pytest.mark.parametrize("merge", [L.Add(), lambda pair: pair[0] + pair[1]])
@pytest.mark.parametrize(
    "normalisation", [L.BatchNormalization, L.LayerNormalization, L.GroupNormalization]
)
def test_advice_does_not_name_what_the_model_has(merge, normalisation):
    """A model that vanishes although it is normalised and has residual connections: its last layer is planted."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((64,))
    for _ in range(3):
        x = merge([x, L.Activation("tanh")(normalisation()(L.Dense(64)(x)))])
    x = L.Dense(64, name="tiny", kernel_initializer=keras.initializers.RandomNormal(stddev=1e-6))(
        normalisation()(x)
    )
    model = keras.Model(inputs, L.Dense(10)(x))
    model.compile("sgd", LOSS)
    finding = found(model, X, np.arange(128) % 10)["vanishing_gradient"]
    assert not re.search(HAS_ALREADY, " ".join(finding.advice))
    assert "Adam" in " ".join(finding.advice) and "warmup" in " ".join(finding.advice)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "EfficientNetB0", "DenseNet121"])
def test_known_architectures_are_advised_nothing_that_they_have(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10)
    for x in (normal(32, 32, 32, 3), 255 * np.abs(normal(32, 32, 32, 3))):
        for finding in found(model, x).values():
            assert not re.search(HAS_ALREADY, words(finding))


@pytest.mark.slow
def test_transformers_of_keras_hub_are_advised_nothing_that_they_have():
    hub = pytest.importorskip("keras_hub").models
    bert = hub.BertBackbone(
        vocabulary_size=99,
        num_layers=12,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=8,
    )
    ids = np.random.default_rng(0).integers(0, 99, (16, 8))
    assert (
        found(bert, {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}) == {}
    )
    vit = hub.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    for finding in found(vit, np.random.default_rng(0).random((16, 16, 16, 3))).values():
        assert not re.search(HAS_ALREADY, words(finding))


STACKS = ["tanh", "sigmoid", "relu", ks.get("sugar_bsilu"), ks.Surrogate("tanh", scale=2)]


@edges(("activation", "depth"), STACKS, [10, 30])
@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_what_theory_says_does_not_contradict_the_finding(activation, depth, optimizer):
    x, y = digits()
    for finding in found(
        mlp(activation, depth, "glorot_uniform", optimizer=optimizer), x, y
    ).values():
        said = finding.prediction or ""
        assert "survives" not in said and "keeps" not in said
        numbers = re.search(
            r"is (\S+) times that of the last hidden one. Measured: (\S+) times", said
        )
        if numbers:
            predicted, measured = map(float, numbers.groups())
            assert 0.1 < predicted / measured < 10
        if finding.kind == "vanishing_gradient" and finding.severity == 1:
            assert "hardly changes" not in finding.message and "most of this" in finding.message

"""`recommend`: numbers against plain tapes in float64, ranks of known cases, and models of any kind."""

import json
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from products import some
from rich.console import Console

import keras_surrogate as ks
from keras_surrogate import Surrogate, cli, datasets, diagnosis, functions, layers
from keras_surrogate.diagnosis import ranking, recommend, workbench
from keras_surrogate.diagnosis.candidates import default_candidates, slope_name
from keras_surrogate.functions import Boxcar, FastSigmoid, LeakyRelu

K = keras.layers
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 12)).astype("float32")
Y = RANDOM.integers(0, 3, 32)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# With one candidate only, which saves time.
ONE = ["hard_tanh"]


def mlp(activation="relu", depth=3, optimizer="sgd", initializer="he_normal", width=16):
    hidden = [
        K.Dense(
            width,
            activation,
            kernel_initializer=keras.initializers.get(initializer).clone(),
            bias_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=number),
            name=f"hidden_{number}",
        )
        for number in range(depth)
    ]
    model = keras.Sequential([keras.Input((12,)), *hidden, K.Dense(3, name="output")])
    model.compile(optimizer, LOSS)
    return model


# The numbers, against plain tapes.

VALUES = {
    "tanh": tf.tanh,
    "sign": tf.sign,
    "hard_tanh": lambda z: tf.clip_by_value(z, -1, 1),
    "softsign": lambda z: z / (1 + tf.abs(z)),
}


def by_hand(model, forward, backward):
    """Gradients by layer, at the pre-activations, and the loss; with stop_gradient for a slope."""
    dense = model.layers
    with tf.GradientTape() as tape:
        signal = tf.constant(X, tf.float64)
        inner = []
        for layer in dense[:-1]:
            z = signal @ layer.kernel.value + layer.bias.value
            inner.append(z)
            smooth = VALUES[backward](z)
            signal = smooth + tf.stop_gradient(VALUES[forward](z) - smooth)
        logits = signal @ dense[-1].kernel.value + dense[-1].bias.value
        chosen = tf.gather(tf.nn.log_softmax(logits), Y, axis=1, batch_dims=1)
        loss = -tf.reduce_mean(chosen)
    weights = [[layer.kernel.value, layer.bias.value] for layer in dense]
    found = tape.gradient(loss, [weights, inner])
    joined = [np.concatenate([np.ravel(one) for one in pair]) for pair in found[0]]
    return joined, [np.linalg.norm(one) for one in found[1]], float(loss)


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


@pytest.fixture
def in_float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.mark.parametrize(
    ("forward", "backward"), [("tanh", "softsign"), ("tanh", "hard_tanh"), ("sign", "hard_tanh")]
)
def test_numbers_are_those_of_plain_tapes(forward, backward, in_float64):
    rate = 0.05
    model = mlp(Surrogate(forward), optimizer=keras.optimizers.SGD(rate))
    found = recommend(model, X.astype("float64"), Y, [backward])[backward]
    gradients, norms, loss = by_hand(model, forward, backward)
    # Where the true slope is 0, the reference is the network of the backward's own function.
    reference_forward = backward if forward == "sign" else forward
    references, *_ = by_hand(model, reference_forward, reference_forward)
    cosines = [cosine(*pair) for pair in zip(gradients, references, strict=True)]
    assert found.ratio == pytest.approx(norms[0] / norms[-1], rel=1e-6)
    assert found.cosine == pytest.approx(cosines[0], rel=1e-6)
    assert found.least_cosine == pytest.approx(min(cosines), rel=1e-6)
    for layer, gradient in zip(model.layers, gradients, strict=True):
        size = layer.kernel.shape[0] * layer.kernel.shape[1]
        layer.kernel.assign_sub(rate * gradient[:size].reshape(layer.kernel.shape))
        layer.bias.assign_sub(rate * gradient[size:])
    *_, after = by_hand(model, forward, backward)
    promised = rate * sum(gradient @ gradient for gradient in gradients)
    assert found.kept == pytest.approx((loss - after) / promised, rel=1e-5)
    assert found.decrease == pytest.approx((loss - after) / loss, rel=1e-5)


def test_normalisation_has_the_numbers_of_real_layers():
    model = mlp("sigmoid", 4, initializer="glorot_uniform")
    stack = [keras.Input((12,))]
    for number in range(4):
        stack += [K.Dense(16), K.BatchNormalization(), K.Activation("sigmoid", name=f"a_{number}")]
    real = keras.Sequential([*stack, K.Dense(3)])
    real.compile("sgd", LOSS)
    kernels = [layer for layer in real.layers if isinstance(layer, K.Dense)]
    for layer, other in zip(kernels, model.layers, strict=True):
        layer.set_weights(other.get_weights())
    expected = recommend(real, X, Y, ONE)
    assert expected["normalisation"].reason == "the model has normalisation already"
    found = recommend(model, X, Y, ONE)["normalisation"]
    assert found.ratio == pytest.approx(expected["true slope"].ratio, rel=1e-3)


def test_scales_and_rates_make_all_steps_alike():
    model = mlp("sigmoid", 5, keras.optimizers.SGD(0.01), "glorot_uniform")
    result = recommend(model, X, Y, ONE)
    assert result["true slope"].ratio < 0.05
    assert result["calibrated scales"].ratio == pytest.approx(1, abs=0.15)
    assert result["a rate for each layer"].ratio == pytest.approx(1)
    # The factors are for layers of this model, and the larger ones for the first.
    factors = eval(result["a rate for each layer"].change.partition("(optimizer, ")[2][:-1])
    assert list(factors) == [f"hidden_{number}" for number in range(5)]
    assert list(factors.values()) == sorted(factors.values(), reverse=True)
    model.compile(ks.optimizers.LayerRates("sgd", factors), LOSS)
    model.fit(X, Y, verbose=0)


# The ranks.


def vanishing():
    return mlp("sigmoid", 5, keras.optimizers.SGD(0.1), "glorot_uniform", 64)


def test_deep_relus_with_hes_weights_keep_the_true_slope():
    result = recommend(mlp("relu", 10, "adam", width=64), X, Y, ["bsilu", LeakyRelu(0.1)])
    assert result.best.kind == "true" and result.best.now
    assert result.verdict.startswith("Keep the true slope")
    assert result["leaky_relu(negative_slope=0.1)"].cosine > 0.9
    assert result["a rate for each layer"].reason.startswith("the steps of Adam do not depend")


def test_sigmoids_that_vanish_take_other_weights_first_and_then_a_larger_slope():
    result = recommend(vanishing(), X, Y)
    assert result.best.kind == "weights" and result.best.effect == "helps"
    assert result.slopes[0].name == "4 * sigmoid" and result.slopes[0].effect == "helps"
    assert "First change the weights" in result.verdict and "4 * sigmoid" in result.verdict


def test_signs_take_wide_slopes_and_narrow_ones_are_lost():
    data = datasets.load("digits")
    widths = {f"width {width}": Boxcar(width) for width in (0.2, 2.0)}
    initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")
    hidden = [K.Dense(64, Surrogate("sign", "hard_tanh"), kernel_initializer=initializer)]
    hidden += [K.Dense(64, Surrogate("sign", "hard_tanh")) for _ in range(3)]
    model = keras.Sequential([keras.Input((8, 8)), K.Flatten(), *hidden, K.Dense(10)])
    model.compile("adam", LOSS)
    result = recommend(model, data.x_train[:128], data.y_train[:128], widths)
    wide, narrow = result["width 2.0"], result["width 0.2"]
    assert wide.least_cosine > 0.3 > narrow.least_cosine
    assert result.best is wide
    assert [one.kind for one in result.options if one.reason is None][-1] == "true"
    assert result.verdict.startswith("The true slope of sign is 0, so a surrogate is needed. Take")


def test_plain_sgd_is_told_to_calibrate_a_wide_slope_whose_gradient_vanishes():
    model = mlp(Surrogate("sign", Boxcar(20.0)), 3, keras.optimizers.SGD(0.1), width=64)
    result = recommend(model, X, Y, {"wide": Boxcar(20.0)})
    assert result["wide"].now and result["wide"].ratio < 0.01
    assert "plain SGD does not correct: use diagnosis.calibrate" in result.verdict


def test_a_lost_signal_is_told_first_and_no_slope_helps():
    result = recommend(mlp("sigmoid", 12, "sgd", "glorot_uniform", 8), X, Y, ["tanh"])
    assert result.verdict.startswith("The signal is lost")
    assert result["tanh"].effect == "none"


def test_dead_units_are_told():
    model = mlp("relu", 2)
    model.layers[1].bias.assign([-100.0] * 16)
    result = recommend(model, X, Y, [LeakyRelu(0.1)])
    assert result.dead == 1
    assert "units of an activation are dead" in result.verdict


def option(name, kind="slope", cosine=0.5, ratio=1.0, effect="helps", score=0.5):
    return diagnosis.Option(name, kind, None, ratio, cosine, cosine, 1.0, 0.1, effect, score)


def setting(is_flat, rescaled=True):
    name = "Adam" if rescaled else "SGD"
    return ranking.Setting("f", is_flat, name, rescaled, 0.01, workbench.Signal(), 0.0, "smooth")


def test_effects_come_before_scores_and_scores_before_kinds():
    options = [
        option("worse", effect="hurts", score=0.9),
        option("unclear", effect="cannot tell", score=0.9),
        option("slope", score=0.8),
        option("weights", "weights", score=0.8),
        option("better", score=0.81),
        option("true", "true", effect=None, score=1.0),
        diagnosis.Option("not measured", "rates", reason="of a reason"),
    ]
    names = [one.name for one in ranking.ranked(options, setting(False))]
    expected = ["better", "weights", "slope", "true", "unclear", "worse", "not measured"]
    assert names == expected


def test_where_the_true_slope_is_0_a_small_gradient_is_no_reason_against_a_slope():
    options = [
        option("true", "true", None, 0.0, None, 0.0),
        option("normalised", "normalisation", effect="none", score=0.9),
        option("narrow", score=0.1),
        option("wide", effect="none", score=0.8),
    ]
    ranked = ranking.ranked(options, setting(True))
    assert [one.name for one in ranked] == ["wide", "narrow", "normalised", "true"]
    assert "Take the slope of wide: of 2 slopes" in ranking.verdict(ranked, setting(True))
    lost = [option("narrow", cosine=0.01, score=0.01), options[0]]
    assert "None of the candidates keeps the direction" in ranking.verdict(lost, setting(True))


def test_a_step_that_increases_the_loss_is_told():
    worse = [diagnosis.Option("true slope", "true", ratio=1.0, kept=-0.5)]
    assert "increases the loss of this batch" in ranking.verdict(worse, setting(False))


# Models of any kind.


@keras.saving.register_keras_serializable("test_recommend")
class Subclassed(keras.Model):
    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.first = K.Dense(width, "relu")
        self.second = K.Dense(width, "relu")
        self.final = K.Dense(3)

    def call(self, x):
        return self.final(self.second(self.first(x)))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def functional():
    inputs = keras.Input((12,))
    x = K.ReLU()(K.Dense(8)(inputs))
    x = K.Add()([x, K.Activation("relu")(K.Dense(8)(K.Dropout(0.3)(x)))])
    return keras.Model(inputs, K.Dense(3)(x))


def images():
    conv = [K.Conv2D(4, 3, activation="elu"), K.Conv2D(4, 2, activation="elu"), K.Flatten()]
    return keras.Sequential([keras.Input((12,)), K.Reshape((4, 3, 1)), K.ZeroPadding2D(), *conv])


def recurrent():
    return keras.Sequential([keras.Input((12,)), K.Reshape((4, 3)), K.SimpleRNN(8), K.Dense(3)])


def binary():
    stack = [layers.SurrogateWeights(K.Dense(8, "relu"), "ste_sign") for _ in range(2)]
    return keras.Sequential([keras.Input((12,)), *stack, K.Dense(3)])


def spiking():
    stack = [layers.ConstantCurrent(4)]
    for _ in range(2):
        stack += [K.Dense(8, kernel_initializer=keras.initializers.VarianceScaling(6.0))]
        stack += [layers.LIF(surrogate="superspike")]
    return keras.Sequential(
        [keras.Input((12,)), *stack, layers.SpikeCount(average=True), K.Dense(3)]
    )


MODELS = {
    "subclassed": (Subclassed, "relu of 2 activations"),
    "functional": (functional, "relu of 2 activations"),
    "images": (images, "elu of 2 activations"),
    "recurrent": (recurrent, "tanh of 1 activation"),
    "binary": (binary, "sign of the weights of 2 layers"),
    "spiking": (spiking, "step of 2 layers of neurons"),
}


def compiled(name):
    model = MODELS[name][0]()
    model.compile("sgd", LOSS, metrics=["accuracy"])
    return model


def state(model):
    model.optimizer.build(model.trainable_variables)
    seeds = [
        layer.seed_generator.state for layer in model.layers if hasattr(layer, "seed_generator")
    ]
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables, *seeds]
    return [np.array(variable) for variable in variables]


@some("name", list(MODELS), ["subclassed", "spiking"])
def test_any_model_is_measured_and_left_unchanged(name):
    model = compiled(name)
    model.fit(X, Y, verbose=0)
    before = state(model)
    config = json.dumps(model.get_config(), default=str)
    drawn = (random.getstate(), np.random.get_state()[1].tolist())
    result = recommend(model, X, Y, ["tanh", "fast_sigmoid"])
    assert result.places == MODELS[name][1]
    assert all(one.ratio > 0 for one in result.slopes)
    assert {one.kind for one in result.options} >= {"true", "slope", "weights", "normalisation"}
    assert all(one.reason or one.score is not None for one in result.options)
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert json.dumps(model.get_config(), default=str) == config
    assert (random.getstate(), np.random.get_state()[1].tolist()) == drawn


def test_what_a_model_has_now_is_in_the_table():
    now = [one.name for one in recommend(compiled("spiking"), X, Y, ["atan"]).options if one.now]
    assert now == ["fast_sigmoid(k=25.0)"]
    result = recommend(compiled("spiking"), X, Y, ["fast_sigmoid"])
    assert [one.kind for one in result.options if one.now] == ["slope"]
    mixed = keras.Sequential(
        [keras.Input((12,)), K.Dense(8, ks.get("ste_sign")), K.Dense(8, Surrogate("sign", "tanh"))]
    )
    mixed.compile("sgd", "mse")
    result = recommend(mixed, X, X[:, :8], ["linear"])
    assert [one.name for one in result.options if one.now] == ["slopes of the model"]


def test_an_activation_at_the_output_stays():
    model = keras.Sequential(
        [keras.Input((12,)), K.Dense(8, "sigmoid"), K.Dense(8, "sigmoid"), K.Dense(1, "sigmoid")]
    )
    model.compile("sgd", "binary_crossentropy")
    assert recommend(model, X, Y % 2, ONE).places == "sigmoid of 2 activations"


def test_layers_choose_the_places_and_other_forwards_are_told():
    model = mlp("relu", 4)
    for layer in model.layers[1:3]:
        layer.activation = keras.activations.tanh
    assert recommend(model, X, Y, ONE).others == ("tanh",)
    chosen = recommend(model, X, Y, ["softsign"], layers=["hidden_1", "hidden_2"])
    assert chosen.places == "tanh of 2 activations" and chosen.others == ()


def test_activations_that_a_class_creates_are_reached_in_the_copy():
    result = recommend(compiled("subclassed"), X, Y, ["softplus"])
    assert result["softplus"].cosine < 1


@pytest.mark.slow
def test_mobilenet_is_measured():
    inputs = keras.Input((32, 32, 3))
    body = keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None)
    model = keras.Model(inputs, K.Dense(3)(K.GlobalAveragePooling2D()(body(inputs))))
    model.compile("adam", LOSS)
    x = RANDOM.normal(size=(16, 32, 32, 3)).astype("float32")
    before = [np.array(variable) for variable in model.variables]
    result = recommend(model, x, Y[:16], ["softplus", LeakyRelu(0.1)])
    assert result.places == "relu6 of 35 activations"
    assert result["normalisation"].reason == "the model has normalisation already"
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(new))


# Candidates.


@some("name", functions.names(), ["relu", "relu6", "sigmoid", "sign", "ternary", "dorefa", "tanh"])
def test_default_candidates_fit_the_forward_and_are_never_its_own_slope(name):
    forward = functions.get(name)
    found = default_candidates(forward)
    assert found
    for key, pair in found.items():
        assert pair.forward == forward and slope_name(pair) == key
        assert (pair.backward, pair.scale) != (forward, 1)


@pytest.mark.parametrize(
    ("candidates", "names"),
    [
        ("softplus", ["softplus"]),
        (["softplus", "sugar_nelu"], ["softplus", "nelu(alpha=0.05)"]),
        (LeakyRelu(0.1), ["leaky_relu(negative_slope=0.1)"]),
        ([Surrogate("sigmoid", scale=4.0)], ["4 * sigmoid"]),
        ({"mine": FastSigmoid(2.0), "other": tf.nn.softsign}, ["mine", "other"]),
    ],
)
def test_candidates_are_names_functions_surrogates_or_a_dictionary(candidates, names):
    result = recommend(mlp("relu", 2), X, Y, candidates)
    assert sorted(one.name for one in result.slopes) == sorted(names)


# Mistakes.


def uncompiled():
    return keras.Sequential([keras.Input((12,)), K.Dense(8, "relu"), K.Dense(3)])


def linear():
    model = keras.Sequential([keras.Input((12,)), K.Dense(8), K.Dense(3)])
    model.compile("sgd", LOSS)
    return model


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (uncompiled, (X, Y), r"recommend needs a loss.*model.compile\(optimizer, loss\)"),
        (mlp, (X,), "recommend needs targets for the loss: give y"),
        (mlp, (X[:0], Y[:0]), "recommend: x"),
        (mlp, (X, Y[:5]), "recommend: x has 32 examples, but y has 5"),
        (mlp, (X[:, :3], Y), r"recommend: .*cannot be called on x of shape \(32, 3\)"),
        (mlp, (X, Y, ["softplu"]), "recommend: there is no slope 'softplu'.*'softplus'"),
        (mlp, (X, Y, []), "recommend: candidates is empty"),
        (mlp, (X, Y, 3), "recommend: candidates must be a list or dictionary"),
        (mlp, (X, Y, [K.ReLU()]), "recommend: the candidate .* is no slope"),
        (mlp, (X, Y, None, "hiden_1"), "no layer 'hiden_1'. Did you mean 'hidden_"),
        (linear, (X, Y), "recommend: sequential has no hidden activation that it can reach"),
    ],
)
def test_mistakes_say_how_to_correct_them(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        recommend(model(), *arguments)


def test_something_else_than_a_model_is_a_type_error():
    with pytest.raises(TypeError, match="recommend: model must be a Keras model"):
        recommend("model.keras", X, Y)


# The result.


@pytest.fixture(scope="module")
def result():
    return recommend(mlp("relu", 3), X, Y, ["softplus", "bsilu"])


def test_the_result_is_printed_shown_and_written(result):
    console = Console(record=True, width=120)
    result.print(console)
    printed = console.export_text()
    for one in result.options:
        assert one.name in printed
    assert " ".join(result.verdict.split()) in " ".join(printed.split())
    assert result.best.name in repr(result) and "<pre" in result._repr_html_()
    written = json.loads(json.dumps(result.to_dict()))
    assert written["best"] == result.best.name
    assert [one["name"] for one in written["options"]] == [one.name for one in result.options]


def test_an_option_is_found_by_its_name(result):
    assert result["softplus"].surrogate == Surrogate("relu", "softplus")
    assert (
        result["softplus"].change
        == "conversion.swap(model, {'relu': Surrogate('relu', 'softplus')})"
    )
    with pytest.raises(KeyError, match="no option 'gelu', but"):
        result["gelu"]


def test_the_best_change_can_be_made(result):
    for one in result.slopes:
        namespace = {"model": mlp("relu", 3), "Surrogate": Surrogate, "functions": functions}
        swapped = eval(one.change, {"conversion": ks.conversion, **namespace})
        assert swapped.layers[0].activation == one.surrogate


# The command.


def test_the_command_prints_the_table_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = mlp("relu", 2)
    model.save("model.keras")
    np.savez("x.npz", x=X, y=Y)
    arguments = ["recommend", "model.keras", "--data", "x.npz", "--candidates", "softplus, nelu"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "softplus" in printed and "Keep the true slope" in printed
    assert cli.main([*arguments, "--json", "--layers", "hidden_1"]) == 0
    document = json.loads(capsys.readouterr().out)
    loaded = keras.saving.load_model("model.keras")
    expected = diagnosis.recommend(loaded, X, Y, ["softplus", "nelu"], ["hidden_1"]).to_dict()
    assert document == json.loads(json.dumps(expected))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--candidates", "nonsense"], "there is no slope 'nonsense'"),
        (["--batch", "0"], "--batch must be an integer of at least 1"),
        (["--targets", "none"], "recommend needs targets for the loss"),
    ],
)
def test_mistakes_of_the_command_are_one_line_and_status_2(
    more, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    mlp("relu", 2).save("model.keras")
    np.savez("x.npz", x=X, y=Y)
    assert cli.main(["recommend", "model.keras", "--data", "x.npz", *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1

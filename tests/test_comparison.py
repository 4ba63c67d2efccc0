"""Comparisons: paired starts, what is measured, the file that survives everything, and the table."""

import dataclasses
import gc
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
import weakref

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from rich.console import Console

from keras_surrogate import (
    Surrogate,
    __version__,
    comparison,
    datasets,
    diagnosis,
    functions,
    plots,
)
from keras_surrogate.comparison import networks, notation
from keras_surrogate.comparison import trainer as trainers
from keras_surrogate.comparison.cases import Case
from keras_surrogate.comparison.outlook import Outlook
from keras_surrogate.functions.base import COLLECTION

SMALL = {"depth": 2, "width": 8, "epochs": 2, "images": 320, "batch_size": 32}


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def trainer(digits, **changes):
    return comparison.Trainer(Case(**{**SMALL, **changes}), digits)


def without_time(run):
    return dataclasses.replace(run, seconds=0.0)


# Cases and grids.


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"backward": "relu"}, {}),
        ({"backward": "1*true"}, {}),
        ({"backward": "4*relu"}, {"backward": "4*true"}),
        ({"backward": "leaky_relu:.30"}, {"backward": "leaky_relu:0.3"}),
        ({"backward": "leaky_relu:0.2"}, {"backward": "leaky_relu"}),
        ({"forward": "leaky_relu:0.3", "backward": "leaky_relu:.3"}, {"forward": "leaky_relu:0.3"}),
        ({"optimizer": "adam:1e-3"}, {"optimizer": "Adam:0.001"}),
        ({"bias": 0}, {}),
        ({"annealing": 0.5}, {}),
        ({"backward": "calibrated*relu"}, {"backward": " calibrated *true"}),
    ],
)
def test_cases_that_mean_the_same_are_equal(given, plain):
    assert Case(**given) == Case(**plain)
    assert hash(Case(**given)) == hash(Case(**plain))


def test_a_case_knows_its_pair_and_its_baseline():
    case = Case(
        backward="0.5*leaky_relu:0.3", balanced=True, annealing=0.5, layer_rate=2.0, depth=7
    )
    assert case.pair == Surrogate("relu", functions.LeakyRelu(0.3), 0.5)
    assert case.baseline == Case(depth=7)
    assert Case(forward="tanh").pair == Surrogate("tanh")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backward": "sofplus"}, "Did you mean 'softplus'"),
        ({"backward": "x*relu"}, "'x' in 'x\\*relu' must be a number"),
        ({"backward": "calibrated*tanh", "balanced": True}, "goes with balanced=False only"),
        ({"backward": "calibrated*tanh", "annealing": 0.5}, "goes with annealing=0.0 only"),
        ({"backward": "tanh:3"}, "'tanh' has no parameter"),
        ({"backward": "leaky_relu:much"}, "'much' in 'leaky_relu:much' must be a number"),
        ({"backward": Surrogate("relu")}, "backward must be text, but is Surrogate"),
        ({"data": "imagenet"}, "data must be one of"),
        ({"network": "transformer"}, "network must be one of"),
        ({"normalization": "bach"}, "normalization must be one of .*Did you mean 'batch'"),
        ({"normalization": "layer:0.9"}, "only a normalization by the batch has a momentum"),
        ({"normalization": "batch:1"}, "from 0 to below 1"),
        ({"normalization": "batch:much"}, "'much' in 'batch:much' must be a number"),
        ({"depth": 0}, "depth must be an integer of at least 1, but is 0"),
        ({"depth": 2.0}, "depth must be an integer, but is 2.0"),
        ({"balanced": "no"}, "balanced must be True or False"),
        ({"optimizer": "sgd"}, "has no learning rate; append it, as in 'sgd:0.01'"),
        ({"optimizer": "sdg:0.1"}, "No optimizer is called 'sdg'"),
        ({"optimizer": "sgd:-1"}, "must be a positive number"),
        ({"initializer": "he"}, "No initializer is called 'he'"),
        ({"bias": math.inf}, "bias must be a finite number"),
        ({"validation": 1.0}, "validation must be a number from 0 to below 1"),
        ({"annealing": 1.5}, "annealing must be a number from 0 to 1"),
        ({"residual": True, "balanced": True}, "residual=True goes with"),
        ({"residual": True, "network": "vgg"}, "network='vgg' goes with residual=False only"),
        ({"network": "resnet"}, "network='resnet' goes with residual=True only"),
        ({"network": "spiking"}, "network='spiking' goes with forward='step' only"),
        ({"residual": True, "balanced": True}, "residual=True goes with balanced=False"),
        ({"initializer": "variance:-1"}, "must be a positive number"),
        ({"initializer": "variance:big"}, "must be a number"),
    ],
)
def test_cases_without_meaning_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Case(**wrong)


def test_a_grid_is_a_product_each_case_once():
    grid = comparison.Grid(backward=["true", "relu", "tanh"], depth=[2, 3], balanced=False, seeds=3)
    assert [(case.backward, case.depth) for case in grid.cases] == [
        ("true", 2),
        ("tanh", 2),
        ("true", 3),
        ("tanh", 3),
    ]
    assert len(grid) == len(grid.runs) == 12
    assert grid.varied == ["depth", "backward"]
    both = grid + comparison.Grid(backward=["tanh", "softplus"], depth=3, seeds=[0, 1, 2])
    assert len(both.cases) == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": 3}, "no axis depths; it has data, network"),
        ({"backward": []}, "The grid is empty: backward has no value"),
        ({"seeds": 0}, "The grid is empty: it has no seeds"),
        ({"seeds": [-1]}, "an integer of at least 0, but is -1"),
        ({"seeds": "3"}, "integers of at least 0"),
    ],
)
def test_grids_without_meaning_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        comparison.Grid(**wrong)
    with pytest.raises(ValueError, match="if their seeds are the same"):
        comparison.Grid(seeds=2) + comparison.Grid(seeds=3)


@pytest.mark.parametrize(
    "text", ["grid = Grid(depth=[2, 3])", "def grid():\n    return Grid(depth=[2, 3])"]
)
def test_a_python_file_is_a_grid(text, tmp_path):
    (tmp_path / "grid.py").write_text(f"from keras_surrogate.comparison import Grid\n{text}\n")
    assert [case.depth for case in comparison.load_grid(tmp_path / "grid.py").cases] == [2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid = 3", "must define grid"),
        ("", "must define grid"),
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
    ],
)
def test_a_file_that_is_no_grid_is_refused(text, message, tmp_path):
    (tmp_path / "grid.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        comparison.load_grid(tmp_path / "grid.py")
    with pytest.raises(ValueError, match="There is no file"):
        comparison.load_grid(tmp_path / "other.py")


# Paired starts.


def seen(trainer, seed):
    """The initial values, and the places of the images in each step."""
    places, train = [], trainer._train
    trainer.start(seed)
    start = trainer.network.model.get_weights()
    trainer._train = lambda chunk, *data: (places.append(np.array(chunk)), train(chunk, *data))[1]
    trainer.run(seed)
    trainer._train = train
    return start, np.concatenate(places)


VARIANTS = [
    {"backward": "softplus", "balanced": True},
    {"backward": "softplus", "annealing": 0.5},
    {"layer_rate": 2.0},
    {"optimizer": "adam:0.001"},
    {"forward": "tanh"},
]


@pytest.mark.parametrize("network", ["mlp", "vgg"])
def test_variants_have_the_same_initial_weights_and_data_order_to_the_last_bit(network, digits):
    weights, places = seen(trainer(digits, network=network), seed=3)
    for variant in VARIANTS if network == "mlp" else VARIANTS[:1]:
        other_weights, other_places = seen(trainer(digits, network=network, **variant), seed=3)
        for one, other in zip(weights, other_weights, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(places, other_places)


def test_seeds_and_epochs_differ_and_each_epoch_takes_each_image_once(digits):
    one = trainer(digits)
    (first, places), (second, other_places) = seen(one, 0), seen(one, 1)
    assert all(not np.array_equal(a, b) for a, b in zip(first, second, strict=True) if a.ndim == 2)
    assert not np.array_equal(first[2], first[4])
    assert not np.array_equal(places, other_places)
    epochs = places.reshape(2, -1)
    assert not np.array_equal(*epochs)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), [np.arange(320)] * 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam:0.01", "normalization": "batch"},
        {"backward": "softplus", "annealing": 1.0},
    ],
)
def test_a_run_is_the_same_after_another_seed_and_in_a_new_process(changes, digits):
    """So that it makes no difference where a grid was interrupted."""
    one = trainer(digits, **changes)
    first = without_time(one.run(5))
    assert without_time(one.run(6)) != first
    assert without_time(one.run(5)) == first
    keras.utils.set_random_seed(99)
    assert without_time(trainer(digits, **changes).run(5)) == first


@pytest.fixture
def counted():
    """The name of a function in the collection, and a list that grows whenever its slope is traced."""
    traces = []

    class CountedSlope(functions.Function):
        """Softplus, counting."""

        def value(self, x):
            return keras.ops.softplus(x)

        def slope(self, x):
            traces.append(x)
            return keras.ops.sigmoid(x)

    yield "counted_slope", traces
    del COLLECTION["counted_slope"]
    from keras_surrogate.comparison import notation

    notation.function.cache_clear()


@pytest.mark.parametrize("annealing", [0.0, 0.5])
def test_a_case_is_compiled_once_for_all_seeds(annealing, counted, digits):
    name, traces = counted
    one = trainer(digits, backward=name, annealing=annealing, validation=0.2)
    one.run(0)
    compiled = len(traces)
    assert compiled > 0
    one.run(1)
    one.run(2)
    assert len(traces) == compiled


def test_moving_averages_of_another_momentum(digits):
    assert Case(normalization="batch:0.990") == Case(normalization="batch")
    case = Case(normalization="batch:0.90", depth=2, width=8)
    assert case.normalization == "batch:0.9" and case.normalization_kind == "batch"
    built = networks.build(case, (8, 8, 1), 10, surrogate=case.pair, initializer="he_normal")
    layers = [
        layer for layer in built.model.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert [layer.momentum for layer in layers] == [0.9, 0.9]
    # The theory knows no momentum.
    plain = dataclasses.replace(case, normalization="batch")
    ratios = [Outlook.of(one, digits).prediction.gradient_ratio for one in (case, plain)]
    assert ratios[0] == ratios[1] > 0


# Training.


@pytest.mark.parametrize(
    "changes", [{"optimizer": "sgd:0.1"}, {"optimizer": "adam:0.01", "normalization": "batch"}]
)
def test_it_trains_as_keras_fit_does(changes, digits):
    one = trainer(digits, backward="softplus", epochs=1, **changes)
    finished = one.run(2)
    trained = one.network.model.get_weights()
    one.start(2)
    order = networks.batches(2, 0, 320, 32).ravel()
    one.network.model.fit(
        one._x.numpy()[order], one._y.numpy()[order], batch_size=32, shuffle=False, verbose=0
    )
    skipped = {
        id(v) for v in one.network.model.non_trainable_variables
    }  # the last measurement moves averages
    for variable, value in zip(one.network.model.weights, trained, strict=True):
        if id(variable) not in skipped:
            np.testing.assert_allclose(variable.numpy(), value, atol=2e-5)
    assert finished.history["loss"][0] > 0


def test_accuracy_and_loss_are_those_of_keras(digits):
    one = trainer(digits, validation=0.25, epochs=4, optimizer="adam:0.01")
    finished = one.run(0)
    model = one.network.model
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    loss, accuracy = model.evaluate(digits.x_test, digits.y_test, verbose=0)
    assert (finished.loss, finished.accuracy) == pytest.approx((loss, accuracy), rel=1e-5)
    assert finished.accuracy > 0.3
    held = one._validation
    assert len(held[0]) == 80 and len(one._x) == 240
    assert finished.validation_accuracy == pytest.approx(model.evaluate(*held, verbose=0)[1])
    assert finished.validation_accuracy == finished.history["validation_accuracy"][-1]
    held_out, kept = {x.tobytes() for x in held[0]}, {x.tobytes() for x in one._x.numpy()}
    assert not held_out & kept


def test_rates_by_layer_do_what_a_scaled_slope_does_under_sgd(digits):
    scaled, rated, plain = (
        trainer(digits, forward="sigmoid", depth=3, optimizer="sgd:0.1", **changes)
        for changes in ({"backward": "4*true"}, {"layer_rate": 4.0}, {})
    )
    for one in (scaled, rated, plain):
        one.run(0)
    weights = [one.network.model.get_weights() for one in (scaled, rated, plain)]
    for ours, theirs in zip(*weights[:2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not np.allclose(weights[0][0], weights[2][0], atol=1e-3)


def test_calibrated_slopes_have_the_scales_that_calibrate_gives_each_start(digits):
    one = trainer(digits, forward="sigmoid", backward="calibrated*tanh", depth=3)
    raw = trainer(digits, forward="sigmoid", backward="tanh", depth=3)
    for seed in (0, 1):
        assert one.run(seed).gradient_ratio == pytest.approx(1, rel=1e-5)
        raw.start(seed)
        x, y = one._x[:256], one._y[:256]
        scaled = diagnosis.calibrate(raw.network.model, x, y)
        wanted = [layer.surrogate.scale for layer in scaled.layers if hasattr(layer, "surrogate")]
        found = [layer.factor for layer in one._balance.balanced]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert raw.run(0).gradient_ratio != pytest.approx(1, rel=0.1)
    first = [without_time(one.run(0)) for _ in range(2)]
    assert first[0] == first[1]


def test_calibrated_slopes_where_no_gradient_passes_keep_their_size(digits):
    one = trainer(digits, forward="sign", backward="calibrated*true", depth=2)
    one.run(0)
    assert [each.factor for each in one._balance.balanced] == [1, 1]


def test_momentum_is_an_optimizer(digits):
    one = trainer(digits, optimizer="momentum:0.01")
    assert one._optimizer.momentum == pytest.approx(0.9)
    assert isinstance(one._optimizer, keras.optimizers.SGD)
    assert not one.case.rescales


def test_annealing_goes_from_the_surrogate_to_the_true_slope(digits, monkeypatch):
    one = trainer(digits, backward="softplus", annealing=0.5)
    whole = one.run(1)
    shares, train = [], one._train
    one._train = lambda *arguments: (
        train(*arguments),
        shares.append(one.network.activations[-1].blend),
    )[0]
    monkeypatch.setattr(trainers, "_CHUNK", 1)
    stepwise = [one.run(seed) for seed in (0, 1)][1]
    expected = np.maximum(0, 1 - np.arange(20) / 10)
    np.testing.assert_allclose(shares, [*expected, *expected], rtol=1e-6)
    assert (whole.loss, whole.accuracy) == pytest.approx(
        (stepwise.loss, stepwise.accuracy), rel=1e-5
    )


def test_a_case_that_is_done_leaves_no_data_in_memory(digits):
    one = trainer(digits, backward="softplus")
    one.run(0)
    data = weakref.ref(one._x)
    del one
    gc.collect()
    assert data() is None


def test_the_slope_is_balanced_as_the_theory_has_it(digits):
    def scale(**changes):
        layers = trainer(digits, balanced=True, **changes).network.model.layers
        return next(layer.surrogate.scale for layer in layers if hasattr(layer, "surrogate"))

    assert scale() == pytest.approx(1, rel=1e-3)
    assert scale(initializer="glorot_uniform") == pytest.approx(2**0.5, rel=1e-3)
    assert scale(backward="3*true") == pytest.approx(1, rel=1e-3)
    # Behind normalisation the pre-activation is N(0, 1): E[g**2] = 1/2, Var[relu] = 1/2 - 1/(2 pi),
    # E[relu**2] = 1/2.
    assert scale(normalization="batch") == pytest.approx((1 - 1 / math.pi) ** 0.5, rel=1e-3)
    assert scale(normalization="layer") == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"normalization": "batch"}, {"validation": 0.2}])
def test_a_run_that_diverges_is_a_result(changes, digits, tmp_path):
    grid = comparison.Grid(seeds=2, **{**SMALL, "epochs": 3, "optimizer": "sgd:1e30", **changes})
    finished = comparison.run(grid, tmp_path / "results.jsonl")
    assert len(finished.runs) == 2
    for run in finished.runs.values():
        assert run.diverged
        assert run.history["loss"][-1] is None
        assert len(run.history["loss"]) < 3
        assert 0 <= run.accuracy < 0.3
    (row,) = comparison.summarize(grid, finished.runs)
    assert row.diverged == 2
    assert comparison.read(tmp_path / "results.jsonl") == finished.runs
    assert "NaN" not in (tmp_path / "results.jsonl").read_text()


# Measurements.


def by_hand(weights, x, y, slope):
    """The gradients of the first and last pre-activations and of the first kernel, in NumPy, of ReLU layers."""
    kernels, biases = weights[::2], weights[1::2]
    outputs, hidden = [x], []
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        hidden.append(outputs[-1] @ kernel + bias)
        outputs.append(np.maximum(hidden[-1], 0))
    logits = outputs[-1] @ kernels[-1] + biases[-1]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    delta = (shares / shares.sum(axis=1, keepdims=True) - np.eye(10)[y]) / len(x)
    deltas = []
    for kernel, pre_activation in zip(kernels[:0:-1], hidden[::-1], strict=True):
        delta = (delta @ kernel.T) * slope(pre_activation)
        deltas.append(delta)
    return deltas[-1], deltas[0], x.T @ deltas[-1]


def test_gradients_at_the_start_are_those_computed_by_hand(digits):
    one = trainer(digits, depth=4, backward="2*softplus")
    finished = one.run(1)
    one.start(1)
    weights = [value.astype(float) for value in one.network.model.get_weights()]
    x, y = one._x.numpy()[:256].reshape(-1, 64).astype(float), one._y.numpy()[:256]
    first, last, kernel = by_hand(weights, x, y, lambda h: 2 / (1 + np.exp(-h)))
    true_first, _, true_kernel = by_hand(weights, x, y, lambda h: h > 0)

    def cosine(a, b):
        return np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)

    assert finished.gradient_ratio == pytest.approx(
        np.linalg.norm(first) / np.linalg.norm(last), rel=1e-4
    )
    assert finished.cosine == pytest.approx(cosine(first, true_first), rel=1e-3)
    assert finished.kernel_cosine == pytest.approx(cosine(kernel, true_kernel), rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"backward": "softplus"},
        pytest.param(
            {"backward": "bsilu", "initializer": "glorot_uniform"}, marks=pytest.mark.slow
        ),
        {"backward": "bsilu", "balanced": True},
        {"forward": "sigmoid", "backward": "tanh", "initializer": "critical", "depth": 5},
        {"backward": "softplus", "normalization": "batch"},
        pytest.param({"backward": "softplus", "normalization": "layer"}, marks=pytest.mark.slow),
        {"backward": "leaky_relu:0.3", "residual": True, "depth": 6},
    ],
    ids=str,
)
def test_predictions_are_near_what_is_measured(changes, digits):
    one = trainer(digits, **{"width": 96, "depth": 8, **changes})
    measured = []
    for seed in range(4):
        one.start(seed)
        measured.append(one._probe.backward(one._x[:256], one._y[:256]))
    log_ratio = np.mean(np.log10([found.gradient_ratio for found in measured]))
    assert log_ratio == pytest.approx(math.log10(one.prediction.gradient_ratio), abs=0.35)
    assert np.mean([found.cosine for found in measured]) == pytest.approx(
        one.prediction.alignment[0], abs=0.12
    )


def test_there_is_no_prediction_for_what_the_theory_leaves_out(digits):
    for changes in (
        {"bias": -1.0},
        {"residual": True, "normalization": "batch"},
        {"forward": "step", "bias": 1},
    ):
        finished = trainer(digits, epochs=1, **changes).run(0)
        assert finished.predicted_gradient_ratio is None and finished.predicted_cosine is None


def test_a_dead_network_is_dead_and_revives_only_with_a_slope_for_it(digits):
    settings = {"bias": -3.0, "epochs": 4, "optimizer": "adam:0.03"}
    true, soft = (
        trainer(digits, backward=backward, **settings).run(0) for backward in ("true", "softplus")
    )
    assert true.initial_dead_units == soft.initial_dead_units == 1
    assert true.history["dead_units"] == [1] * 4
    assert soft.history["dead_units"][0] < 0.9 and soft.dead_units < 0.2
    dead = trainer(digits, bias=-30.0, epochs=1).run(0)
    assert dead.dead_units == 1
    assert dead.cosine is None and dead.kernel_cosine is None
    assert trainer(digits, forward="tanh", epochs=1).run(0).dead_units == 0


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"network": "resnet", "residual": True, "normalization": "batch"}, (2, 2, 6)),
        ({"network": "spiking", "forward": "step", "backward": "fast_sigmoid:5"}, (12, 6)),
    ],
)
def test_other_networks_learn(digits, changes, shape):
    one = trainer(
        digits,
        depth=5,
        width=6,
        epochs=2,
        optimizer="adam:0.01",
        initializer="variance:3",
        **changes,
    )
    assert one.network.outputs[-1].shape[1:] == shape
    assert one.prediction is one.effect is None
    finished = one.run(0)
    assert finished.history["accuracy"][-1] > finished.history["accuracy"][0]
    assert finished.gradient_ratio > 0


def test_a_variance_is_that_times_fan_in():
    kernel = notation.initializer("variance:3", "relu")((400, 500))
    assert float(np.var(kernel)) * 400 == pytest.approx(3, rel=0.02)
    assert comparison.Case(initializer="variance:3.0") == comparison.Case(initializer="variance:3")


def test_convolutions_have_a_unit_for_each_channel(digits):
    one = trainer(digits, network="vgg", depth=4, width=4)
    assert [tensor.shape[1:] for tensor in one.network.outputs] == [
        (8, 8, 4),
        (8, 8, 4),
        (4, 4, 8),
        (4, 4, 8),
    ]
    one.start(0)
    x = digits.x_test[:50]
    before = one._probe.dead_units(x)
    bias = np.zeros(4)
    bias[0] = -100
    one.network.hidden[0].bias.assign(bias)
    assert one._probe.dead_units(x) == pytest.approx(before + 1 / 4 / 4, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "vgg", "depth": 9}, "of 8 x 8 pixels, has at most depth 7"),
        ({"images": 20}, "leaves 20 images to train"),
        ({"validation": 0.001}, "0 to validate"),
        ({"forward": "step", "balanced": True}, "no slope to scale"),
        ({"initializer": "ones"}, "independent weights of mean 0"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_anything_is_trained(
    changes, message, tmp_path
):
    grid = comparison.Grid(**SMALL, seeds=1) + comparison.Grid(**{**SMALL, **changes}, seeds=1)
    with pytest.raises(ValueError, match=message):
        comparison.run(grid, tmp_path / "results.jsonl")
    assert (tmp_path / "results.jsonl").read_text() == ""


# The file.


def fake(case=None, seed=0, **changes):
    numbers = {field.name: 0.5 for field in dataclasses.fields(comparison.Run)}
    others = {
        "diverged": False,
        "predicted_effect": None,
        "history": {"loss": [1.0]},
        "versions": {"keras_surrogate": __version__},
    }
    return comparison.Run(**{**numbers, **others, "case": case or Case(), "seed": seed, **changes})


def test_a_line_is_a_run():
    run = fake(
        Case(backward="leaky_relu:0.3", depth=7),
        3,
        loss=math.nan,
        history={"loss": [1.0, math.inf]},
    )
    assert (run.loss, run.history) == (None, {"loss": [1.0, None]})
    assert comparison.Run.from_line(run.to_line()) == run
    entry = json.loads(run.to_line())
    assert entry["format"] == 1
    assert entry["case"]["backward"] == "leaky_relu:0.3"
    assert entry["versions"]["keras_surrogate"]


@pytest.fixture
def path(tmp_path):
    """A file with the runs of three seeds."""
    with comparison.ResultsFile(tmp_path / "results.jsonl") as results:
        for seed in range(3):
            results.append(fake(seed=seed))
    return tmp_path / "results.jsonl"


def test_a_half_written_line_is_dropped_with_a_warning_wherever_it_ends(path):
    whole = path.read_bytes()
    starts = [0, *(place + 1 for place, byte in enumerate(whole) if byte == ord("\n"))]
    for length in [*range(starts[2] + 1, starts[3]), 1, 5, 30]:
        path.write_bytes(whole[:length])
        with (
            pytest.warns(UserWarning, match="incomplete and is dropped"),
            comparison.ResultsFile(path) as results,
        ):
            assert len(results.runs) == (2 if length > starts[2] else 0)
            results.append(fake(seed=2))
        assert comparison.read(path)[Case(), 2] == fake(seed=2)
        kept = whole[: starts[2]] if length > starts[2] else b""
        assert path.read_bytes() == kept + fake(seed=2).to_line().encode()


def test_a_damaged_line_is_left_out_with_a_warning_and_stays(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "\0\0\n" + lines[1].replace("relu", "rleu") + lines[2])
    with pytest.warns(UserWarning) as caught, comparison.ResultsFile(path) as results:
        assert {seed for _, seed in results.runs} == {0, 2}
    assert ["line 2" in str(caught[0].message), "line 3" in str(caught[1].message)] == [True, True]
    assert "rleu" in path.read_text()


@pytest.mark.parametrize(
    "content", [b"some text\n", b"some text", b"\x89PNG\xff\n\0", b"[1]\n", b'{"a": 1}\n']
)
def test_another_file_is_refused_and_left_as_it_is(content, tmp_path):
    (tmp_path / "notes").write_bytes(content)
    with (
        pytest.raises(ValueError, match="is no file of results"),
        comparison.ResultsFile(tmp_path / "notes"),
    ):
        pass
    assert (tmp_path / "notes").read_bytes() == content


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    for name in ("missing/results.jsonl", "."):
        with (
            pytest.raises(ValueError, match="cannot be written"),
            comparison.ResultsFile(tmp_path / name),
        ):
            pass
    with pytest.raises(ValueError, match="cannot be read"):
        comparison.read(tmp_path / "missing.jsonl")


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_second_process_is_refused(path):
    code = (
        f"from keras_surrogate import comparison\nwith comparison.ResultsFile({str(path)!r}): pass"
    )
    with comparison.ResultsFile(path):
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ValueError: Another process is writing to" in finished.stderr
    with comparison.ResultsFile(path) as results:
        assert len(results.runs) == 3


def test_of_two_lines_for_one_run_the_first_is_read(path):
    with open(path, "a") as file:
        file.write(fake(seed=1, accuracy=0.75).to_line())
    assert comparison.read(path)[Case(), 1].accuracy == 0.5


def test_runs_of_other_versions_are_kept_with_a_word(tmp_path):
    case = Case(**SMALL)
    with comparison.ResultsFile(tmp_path / "results.jsonl") as results:
        results.append(fake(case, versions={"keras_surrogate": "0.0.1"}))
    with pytest.warns(UserWarning, match=r"made by version 0\.0\.1"):
        finished = comparison.run(comparison.Grid(**SMALL, seeds=1), tmp_path / "results.jsonl")
    assert finished.runs[case, 0].accuracy == 0.5


# Grids that run.


@pytest.fixture
def trained(monkeypatch):
    """Quick trainings: the list of those made; one whose number is in `stop` is interrupted."""
    made = []

    class Quick:
        steps_per_epoch = 1

        def __init__(self, case, data):
            self.case = case

        def run(self, seed, progress):
            if len(made) == made_until[0]:
                raise KeyboardInterrupt
            made.append((self.case, seed))
            return fake(self.case, seed, accuracy=0.1 * self.case.depth + 0.01 * seed)

    made_until = [None]
    monkeypatch.setattr(trainers, "Trainer", Quick)
    return made, made_until


def test_a_grid_goes_on_where_it_was_interrupted_and_other_runs_are_kept(trained, tmp_path):
    made, made_until = trained
    output, grid = tmp_path / "results.jsonl", comparison.Grid(depth=[2, 3], seeds=3)
    comparison.run(comparison.Grid(depth=7, seeds=1), output)
    made_until[0] = 5
    stopped = comparison.run(grid, output)
    assert stopped.interrupted and len(stopped.runs) == 4
    before = output.read_bytes()
    made_until[0] = None
    finished = comparison.run(grid, output)
    assert not finished.interrupted
    assert list(finished.runs) == grid.runs == made[1:]
    assert output.read_bytes().startswith(before)
    assert comparison.run(grid, output) == finished and len(made) == 7
    assert len(comparison.read(output)) == 7


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killing_loses_the_run_in_progress_only(tmp_path):
    output = tmp_path / "results.jsonl"
    grid = comparison.Grid(**SMALL, backward=["true", "softplus"], seeds=40)
    code = (
        "from keras_surrogate import comparison\n"
        f"comparison.run(comparison.Grid(**{SMALL}, backward=['true', 'softplus'], seeds=40), {str(output)!r})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True
    ) as process:
        line = next(line for line in process.stderr if line.startswith("5 of 80"))
        time.sleep(0.03)
        os.kill(process.pid, signal.SIGKILL)
        said = [line, *process.stderr]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        survived = comparison.read(output)
    assert 5 <= len(survived) < 80
    assert len(survived) >= sum("(" in line and " of 80: " in line for line in said) + 4
    assert list(survived) == grid.runs[: len(survived)]
    again = comparison.run(comparison.Grid(**SMALL, seeds=len(survived) + 1), output)
    assert comparison.read(output)[Case(**SMALL), 2] == survived[Case(**SMALL), 2]
    assert len(again.runs) == len(survived) + 1


# Rows, tables and pictures.


def rows_of(accuracies, tune=False, **changes):
    """Rows from a dictionary from fields of cases, as a tuple of pairs, to accuracies of their seeds."""
    grids = [
        comparison.Grid(**dict(fields), seeds=len(scores)) for fields, scores in accuracies.items()
    ]
    grid = sum(grids[1:], start=grids[0])
    runs = {
        (one.cases[0], seed): fake(
            one.cases[0], seed, **{"accuracy": score, "validation_accuracy": score, **changes}
        )
        for one, scores in zip(grids, accuracies.values(), strict=True)
        for seed, score in enumerate(scores)
    }
    return comparison.summarize(grid, runs, tune)


def test_rows_hold_means_and_paired_differences():
    tanh, true = (("backward", "tanh"),), ()
    first, second = rows_of({true: [0.5, 0.6, 0.4], tanh: [0.6, 0.8, 0.4]})
    assert first.case == Case() and first.difference is None
    assert first.accuracy.mean == pytest.approx(0.5) and first.deviation == pytest.approx(0.1)
    assert second.difference.mean == pytest.approx(0.1)
    half = 4.302652729911275 * 0.1 / 3**0.5
    assert (second.difference.low, second.difference.high) == pytest.approx(
        (0.1 - half, 0.1 + half)
    )
    assert second.pairs == 3


def test_only_seeds_that_both_have_are_paired():
    grid = comparison.Grid(backward=["true", "tanh"], seeds=4)
    true, tanh = grid.cases
    runs = {
        (true, 1): fake(true, 1, accuracy=0.4),
        (tanh, 1): fake(tanh, 1, accuracy=0.9),
        (tanh, 3): fake(tanh, 3),
    }
    rows = comparison.summarize(grid, {**runs, (Case(depth=9), 0): fake(Case(depth=9))})
    assert [row.case for row in rows] == [true, tanh]
    assert rows[1].pairs == 1
    assert rows[1].difference == comparison.statistics.Interval(pytest.approx(0.5), None, None)
    (alone,) = comparison.summarize(grid, {(tanh, 3): fake(tanh, 3)})
    assert alone.difference is None


def test_gradient_ratios_have_geometric_means_and_what_is_undefined_is_left_out():
    grid = comparison.Grid(seeds=3)
    (case,) = grid.cases
    numbers = [(0.1, None), (10.0, 0.2), (None, 0.4)]
    runs = {
        (case, seed): fake(case, seed, gradient_ratio=r, cosine=c)
        for seed, (r, c) in enumerate(numbers)
    }
    (row,) = comparison.summarize(grid, runs)
    assert row.gradient_ratio == pytest.approx(1) and row.cosine == pytest.approx(0.3)
    runs[case, 0] = fake(case, 0, gradient_ratio=0.0)
    assert comparison.summarize(grid, runs)[0].gradient_ratio == 0


def test_each_variant_gets_its_own_best_learning_rate():
    def fields(backward, optimizer):
        return (("backward", backward), ("optimizer", optimizer), ("validation", 0.1))

    accuracies = {
        fields("true", "sgd:0.01"): [0.3, 0.5],
        fields("true", "sgd:0.1"): [0.7, 0.6],
        fields("true", "sgd:1"): [0.1, 0.1],
        fields("tanh", "sgd:0.01"): [0.8, 0.9],
        fields("tanh", "sgd:0.1"): [0.6, 0.6],
        fields("tanh", "adam:0.1"): [0.2, 0.2],
    }
    rows = rows_of(accuracies, tune=True)
    chosen = [(row.case.backward, row.case.optimizer, row.at_edge) for row in rows]
    assert set(chosen) == {
        ("true", "sgd:0.1", False),
        ("tanh", "sgd:0.01", True),
        ("tanh", "adam:0.1", False),
    }
    by_optimizer = {row.case.optimizer: row for row in rows}
    assert by_optimizer["sgd:0.01"].difference.mean == pytest.approx(0.2)
    assert by_optimizer["adam:0.1"].difference is None
    assert "0.01 *" in comparison.markdown(rows).replace("\\", "")
    with pytest.raises(ValueError, match="give validation"):
        rows_of({(): [0.1]}, tune=True)


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ([0.7, 0.71, 0.72], "helps"),
        ([0.3, 0.31, 0.32], "hurts"),
        ([0.505, 0.505, 0.505], "none"),
        ([0.3, 0.5, 0.9], "none"),
        ([0.9], None),
    ],
)
def test_an_effect_is_shown_by_an_interval_and_a_point(scores, shown):
    true, other = rows_of(
        {(): [0.5] * len(scores), (("backward", "tanh"),): scores}, predicted_effect="helps"
    )
    assert (true.effect, other.effect) == (None, shown)
    assert comparison.record([true, other]) == ({("helps", shown): 1} if shown else {})


@pytest.mark.slow
def test_the_theory_says_what_a_slope_does_to_training(digits):
    def said(**changes):
        return trainer(digits, **{"width": 64, "depth": 20, **changes}).effect

    sigmoid = {"forward": "sigmoid", "initializer": "glorot_uniform", "depth": 5}
    assert said() is None
    assert said(backward="leaky_relu:0.01") == "none"
    assert said(backward="bsilu") == said(backward="bsilu", balanced=True) == "hurts"
    assert said(backward="4*true", optimizer="adam:0.01") == "none"
    assert said(backward="4*true") == "cannot tell", "the steps may be too large"
    assert said(backward="4*true", **sigmoid) == "helps"
    assert said(backward="4*true", **sigmoid, optimizer="sgd:1") == "cannot tell"
    assert said(balanced=True, **sigmoid) == "helps"
    assert said(balanced=True, **{**sigmoid, "depth": 50}) == "none", "its signal is lost"
    assert said(backward="4*true", layer_rate=2.0) is said(backward="4*true", annealing=0.5) is None
    assert said(backward="tanh", bias=1.0) is None
    assert said(forward="step", backward="hard_tanh", depth=3) == "helps"
    assert said(backward="leaky_relu:0.01", normalization="batch") == "none"


def some_rows():
    return rows_of(
        {
            (): [0.5, 0.6, 0.4],
            (("backward", "4*true"),): [0.6, 0.8, 0.4],
            (("depth", 50),): [0.1, 0.1, 0.1],
        },
        predicted_cosine=None,
        cosine=None,
        gradient_ratio=0.001,
        diverged=True,
        predicted_effect="helps",
    )


def test_tables_say_what_varies_and_what_is_common():
    text = comparison.markdown(some_rows())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    assert lines[0].startswith("| depth | backward | accuracy % | sd | difference | theory says |")
    assert (
        r"| 5 | 4\*true | 60.0 | 20.0 | +10.0 (-14.8 to +34.8) | helps | 3 | 3 | 0.001 (0.5) | - | 50 |"
        in lines
    )
    assert text.startswith(
        "digits, mlp, width 64, relu, he_normal, sgd:0.01, epochs 10, batch size 32."
    )
    assert "diverged counts with the accuracy" in text
    assert text.endswith('about 0 of 1 slopes; it says "helps" where no difference is shown: 1.\n')
    rich_table = comparison.table(some_rows())
    assert rich_table.row_count == 3
    assert [column.header for column in rich_table.columns][:3] == [
        "depth",
        "backward",
        "accuracy\n%",
    ]


def test_pictures_show_every_row():
    rows = some_rows()
    ax = plots.accuracies(rows[:2])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["true", "4*true"]
    means = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert means == pytest.approx([50, 60])
    titles = [ax.get_title() for ax in plots.comparison(rows)]
    assert titles == ["depth 5", "depth 50"]
    # Without cosines there is no panel of them, and of given panels the second stays empty.
    (only,) = plots.predicted_against_measured(rows)
    np.testing.assert_allclose(points_in(only), [[0.5, 0.001]] * 3)
    scores = {(): [0.5], (("backward", "tanh"),): [0.6]}
    with_cosines = rows_of(scores, gradient_ratio=0.001, predicted_cosine=0.5, cosine=0.25)
    ratios, cosines = plots.predicted_against_measured(with_cosines)
    np.testing.assert_allclose(points_in(ratios), [[0.5, 0.001]] * 2)
    np.testing.assert_allclose(points_in(cosines), [[0.5, 0.25]] * 2)
    given = plots.predicted_against_measured(rows, ax=[ratios, cosines])
    assert given == [ratios, cosines] and len(points_in(cosines)) == 2


def points_in(ax):
    """The points that are drawn, shape (points, 2)."""
    drawn = [line for line in ax.lines if line.get_marker() != "None"]
    return np.concatenate([np.stack(line.get_data(), axis=1) for line in drawn])


def test_the_panel_of_networks_that_have_nothing_of_the_others_is_called_plain():
    rows = rows_of({(): [0.5], (("normalization", "batch"),): [0.6]})
    titles = [ax.get_title() for ax in plots.comparison(rows)]
    assert titles == ["plain", "normalization batch"]


def test_slopes_with_learning_rates_of_their_own_share_a_panel():
    def fields(backward, rate):
        return (("backward", backward), ("optimizer", f"sgd:{rate}"), ("validation", 0.1))

    scores = {fields("true", 0.01): [0.3], fields("true", 0.1): [0.7], fields("tanh", 0.01): [0.8]}
    rows = rows_of(scores, tune=True)
    (ax,) = plots.comparison(rows)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "true, sgd:0.1",
        "tanh, sgd:0.01",
    ]
    separate = plots.comparison(rows_of(scores))
    assert [ax.get_title() for ax in separate] == ["sgd:0.01", "sgd:0.1"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_something_before_the_first_result(is_terminal, tmp_path, monkeypatch):
    def not_loaded(*_):
        raise ValueError("no data")

    monkeypatch.setattr(datasets, "load", not_loaded)
    text = io.StringIO()
    with pytest.raises(ValueError, match="no data"):
        comparison.run(
            comparison.Grid(**SMALL, seeds=1),
            tmp_path / "results.jsonl",
            console=Console(file=text, force_terminal=is_terminal),
        )
    assert ("Loading the data" in text.getvalue()) == is_terminal
    assert is_terminal or not text.getvalue()

"""Every result that a user can hold shows itself in a few lines, and where it is a table as one in notebooks."""

import dataclasses
import functools
import inspect
import types

import keras
import numpy as np
import pytest

import keras_surrogate as ks
from keras_surrogate import (
    comparison,
    conversion,
    datasets,
    functions,
    records,
    reprs,
    simulation,
    theory,
)
from keras_surrogate.layers.neurons import LIFNeuron
from keras_surrogate.testing import roundtrip

# Characters. About six lines of a terminal.
LONGEST = 600

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")


def record(steps=200, quantities=("gradient_norm", "update_ratio"), layers=100):
    names = ["global", *(f"block_{number}/a_layer_of_a_long_name" for number in range(layers))]
    columns = tuple(f"{quantity}/{name}" for quantity in quantities for name in names)
    values = np.full((steps, len(columns)), 0.5)
    return records.Record(columns, np.arange(steps), np.arange(steps) // 20, values)


def swapped(layers=40):
    hidden = (keras.layers.Dense(4, "relu", name=f"hidden_{number}") for number in range(layers))
    return conversion.swap(
        keras.Sequential([keras.Input((4,)), *hidden]), {"relu": "leaky_backward"}
    )


def run_of(case, seed):
    names = [field.name for field in dataclasses.fields(comparison.Run)]
    history = {name: [0.123456789] * 100 for name in ("loss", "accuracy", "dead_units")}
    values = {
        "case": case,
        "seed": seed,
        "diverged": False,
        "accuracy": 0.9,
        "history": history,
        "seconds": 1.5,
    }
    values |= {"predicted_effect": "helps", "versions": {}}
    return comparison.Run(**{**dict.fromkeys(names, 0.5), **values})


GRID = comparison.Grid(
    backward=["true", "softplus", "bsilu"], depth=list(range(1, 21)), initializer="lecun_normal"
)


def runs():
    return {(case, seed): run_of(case, seed) for case, seed in GRID.runs}


def finished():
    return comparison.Finished(runs(), False)


def images():
    arrays = np.zeros((1000, 28, 28), "float32"), np.arange(1000) % 10
    return datasets.Dataset("mnist", *arrays, *arrays)


def sample():
    return simulation.gradient_sample("tanh", depth=20, networks=2000)


def rates():
    return simulation.vanishing_rates("tanh", np.linspace(0.1, 3, 40), networks=8, depth=3)


def paths():
    return simulation.training_paths("tanh", depth=3, networks=64, steps=30)


def recommendations():
    return theory.recommend("relu", 20, "he_normal", count=10)


@functools.cache
def diagnosed():
    """A diagnosis with findings: twenty sigmoid layers under SGD."""
    hidden = [keras.layers.Dense(16, "sigmoid") for _ in range(20)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    found = ks.diagnosis.diagnose(
        model, generator.normal(size=(64, 8)), generator.normal(size=(64, 3))
    )
    assert found.findings
    return found


@functools.cache
def aligned():
    """The alignment and the one-step test of twenty layers of signs."""
    hidden = [keras.layers.Dense(8, ks.get("ste_sign")) for _ in range(20)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    batch = generator.normal(size=(16, 8)), generator.normal(size=(16, 3))
    return ks.diagnosis.alignment(model, *batch), ks.diagnosis.first_order(model, *batch)


@functools.cache
def calibrated():
    return ks.diagnosis.calibration_report(ks.diagnosis.calibrate(swapped(), X))


@functools.cache
def recommended():
    hidden = [keras.layers.Dense(8, ks.get("ste_sign")) for _ in range(4)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)], name="a" * 60)
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    batch = generator.normal(size=(16, 8)), generator.normal(size=(16, 3))
    return ks.diagnosis.recommend(model, *batch, ["atan", "fast_sigmoid", "linear"])


# One of each class, as large as they come.
MAKE = {
    "Record": record,
    "Calibrated": calibrated,
    "Dataset": images,
    "Report": lambda: conversion.report(swapped()),
    "Change": lambda: conversion.report(swapped(2)).changes[0],
    "Unreached": lambda: conversion.Unreached(
        "a/path", "a reason of some length, which may fill a whole line"
    ),
    "Prediction": lambda: theory.predict("sugar_bsilu", 200, "he_normal", input_correlation=0.5),
    "DepthScales": lambda: theory.predict("sugar_bsilu", 20, "he_normal").depth_scales,
    "WeightReport": lambda: conversion.weight_report(swapped()),
    "LayerWeights": lambda: conversion.weight_report(swapped()).layers[0],
    "SpikingPrediction": lambda: theory.predict_spiking(LIFNeuron(), 100, samples=100),
    "StraightThrough": lambda: theory.equivalent_straight_through("dge_fp4"),
    "Recommendations": recommendations,
    "Recommendation": lambda: recommendations().ranking[0],
    "Grid": lambda: GRID,
    "Run": lambda: next(iter(runs().values())),
    "Finished": finished,
    "CaseSummary": lambda: comparison.summarize(GRID, runs())[-1],
    "Case": lambda: comparison.Case(backward="softplus"),
    "GradientSample": sample,
    "Shares": lambda: rates().product,
    "VanishingRates": rates,
    "JointHistogram": lambda: simulation.joint_histogram(sample()),
    "GradientMap": lambda: simulation.gradient_map("tanh", depth=3, steps=20),
    "TrainingPaths": paths,
    "TwoStateChain": lambda: simulation.two_state_chain(paths().log10_norm),
    "Diagnosis": lambda: diagnosed(),
    "Row": lambda: diagnosed().rows[0],
    "Batch": lambda: diagnosed().batch,
    "Finding": lambda: diagnosed().findings[0],
    "Alignment": lambda: aligned()[0],
    "AlignedLayer": lambda: aligned()[0].rows[0],
    "FirstOrder": lambda: aligned()[1],
    "OneStep": lambda: aligned()[1].steps[0],
    "Recommended": recommended,
    "Option": lambda: recommended().options[0],
    "Difference": lambda: roundtrip.Difference(1e-7, 1e-7),
    "Surrogate": lambda: ks.get("sugar_bsilu"),
    "Function": functions.LeakyRelu,
}
TABLES = (
    "Record",
    "Report",
    "Prediction",
    "SpikingPrediction",
    "StraightThrough",
    "WeightReport",
    "Recommendations",
    "Grid",
    "Finished",
    "VanishingRates",
)


def public_classes():
    """The dataclasses and the `Shown` that the package and its rooms name."""
    rooms = [ks, *(getattr(ks, name) for name in ks.__all__)]
    found = {}
    for room in rooms:
        if isinstance(room, types.ModuleType):
            names = getattr(
                room, "__all__", [name for name in vars(room) if not name.startswith("_")]
            )
            found.update(
                {
                    id(value): value
                    for name in names
                    if inspect.isclass(value := getattr(room, name))
                }
            )
    classes = [cls for cls in found.values() if cls.__module__.startswith("keras_surrogate")]
    return [cls for cls in classes if dataclasses.is_dataclass(cls) or reprs.Shown in cls.__bases__]


# What holds no numbers, but is a small value that `eval` gives back.
VALUES = (functions.Function, ks.Surrogate, comparison.Case)


def test_every_public_class_is_tried_here():
    names = {cls.__name__ for cls in public_classes() if not issubclass(cls, functions.Function)}
    assert {"Record", "Prediction", "Finished", "GradientMap", "Report", "Dataset"} <= names
    assert names - set(MAKE) - {"Alert"} == set()


@pytest.mark.parametrize("name", MAKE)
def test_a_repr_is_short_and_says_what_it_is(name):
    shown = MAKE[name]()
    text = repr(shown)
    assert len(text) <= LONGEST, text
    assert max(map(len, text.splitlines())) <= 120 or isinstance(shown, VALUES)
    assert text.startswith(type(shown).__name__)
    assert "array(" not in text


@pytest.mark.parametrize("name", TABLES)
def test_a_table_in_a_notebook_is_small_and_whole(name):
    shown = MAKE[name]()._repr_html_()
    assert shown.startswith("<table><caption>")
    assert shown.endswith("</table>")
    assert shown.count("<tr>") == shown.count("</tr>") <= 2 + reprs._ROWS
    assert len(shown) < 20_000


def test_what_is_no_table_leaves_notebooks_the_repr():
    assert images()._repr_html_() is None


def test_names_are_escaped_and_long_tables_are_cut():
    table = reprs.html_table(
        "a < b", ["<name>", "n"], ((f"<b>{number}</b>", number) for number in range(50))
    )
    assert "<caption>a &lt; b</caption><thead><tr><th>&lt;name&gt;</th>" in table
    assert "<td>&lt;b&gt;0&lt;/b&gt;</td><td>0</td>" in table
    assert "and 20 more" in table
    assert "<b>" not in table


def unwrapped(shown):
    return " ".join(repr(shown).split())


def test_the_main_numbers_of_a_record():
    quantities = ("gradient_norm", "gradient_histogram[0]", "gradient_histogram[1]")
    found = record(steps=40, quantities=quantities, layers=3)
    facts = "kind raw; steps 40 (0 to 39); epochs 2; layers 3; quantities gradient_norm, gradient_histogram"
    assert unwrapped(found).startswith(
        f"Record: {facts}; last global norm 0.5 more: record[quantity]"
    )
    assert "<td>block_1/a_layer_of_a_long_name</td><td>0.5</td>" in found._repr_html_()


@pytest.mark.parametrize("columns", [(), ("gradient_norm/global",), ("activation_zeros/dense",)])
def test_an_empty_record_is_no_error(columns):
    found = records.Record(columns, np.empty(0, int), np.empty(0, int), np.empty((0, len(columns))))
    assert "steps 0; epochs 0" in unwrapped(found)
    assert found._repr_html_().startswith("<table>")


def test_a_report_counts_what_became_what():
    facts = "changed 40; not reached 0; namely: relu -> relu with the slope of leaky_relu (40)"
    assert facts in unwrapped(conversion.report(swapped()))


def test_a_map_all_of_whose_chains_diverge_is_no_error():
    found = simulation.gradient_map(
        "linear", depth=3, steps=60, learning_rate=50.0, weights=[3.0], biases=[3.0]
    )
    assert "to nan; diverged 1" in unwrapped(found)


def test_dataclasses_stay_values():
    found = run_of(GRID.cases[0], 0)
    assert dataclasses.replace(found, seed=1).seed == 1
    assert comparison.Run.from_line(found.to_line()) == found

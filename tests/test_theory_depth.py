"""Predictions over hundreds of layers: equal to those before, small in memory, refused in one line."""

import math
import tracemalloc

import numpy as np
import pytest

from keras_surrogate import Surrogate, theory
from keras_surrogate.cli import main
from keras_surrogate.theory import finite_width, interpolation, moments
from keras_surrogate.theory.prediction import DEEPEST


def closed_forms(variances):
    """P(abs(h) < 1), E[h**2; abs(h) < 1] and E[cos(h)] over N(0, q)."""
    inside = np.array([math.erf(1 / math.sqrt(2 * q)) for q in variances])
    edge = np.exp(-1 / (2 * variances)) * np.sqrt(2 * variances / np.pi)
    return inside, variances * inside - edge, np.exp(-variances / 2)


def computed_at(compute, variances):
    """The rows by `interpolation.at`, and the number of variances at which they were computed."""
    counts = []

    def counted(some):
        counts.append(len(some))
        return compute(some)

    return interpolation.at(counted, variances), sum(counts)


@pytest.mark.parametrize(("low", "high"), [(1e-2, 10), (0.3, 0.3001), (0.1, 0.1 + 1e-14)])
def test_averages_at_many_variances_are_those_of_closed_forms(low, high):
    variances = np.geomspace(low, high, 900)
    np.random.default_rng(0).shuffle(variances)
    found, count = computed_at(closed_forms, variances)
    np.testing.assert_allclose(found, closed_forms(variances), rtol=1e-11)
    assert count < 200


def test_extreme_variances_need_few_computations():
    def compute(variances):
        # As of a slope that is 1 below its scale and 0.5 above it.
        return (1 + 1 / (1 + variances)) / 2, np.zeros_like(variances)

    variances = np.concatenate([[0.0], np.geomspace(1e-190, 1e140, 3000), [0.0]])
    found, count = computed_at(compute, variances)
    np.testing.assert_allclose(found, compute(variances), rtol=1e-11)
    assert count < 800


def test_small_averages_keep_their_digits():
    def compute(variances):
        return (np.exp(-50 / variances),)

    variances = np.geomspace(0.5, 2, 500)
    found, _ = computed_at(compute, variances)
    np.testing.assert_allclose(found, compute(variances), rtol=1e-11)


@pytest.mark.parametrize(
    ("name", "expected"), [("relu", True), ("leaky_relu", True), ("softplus", False)]
)
def test_homogeneous_functions_are_known(name, expected):
    assert moments.is_homogeneous(Surrogate(name)) is expected
    assert not moments.is_homogeneous(Surrogate("relu6"))


# The last signal variance, the first gradient norm, the first cosine and the last correlation, as
# computed layer by layer.
RECORDED = [
    (
        ("sugar_bsilu", 300, 2.0),
        {"input_correlation": 0.5},
        (2.0, 1.3494687090911835e33, 1.779349178100859e-12, 0.9995636738558467),
    ),
    (
        ("tanh", 300, 1.0),
        {"input_correlation": 0.5},
        (0.0016824744164091777, 0.04863444810572574, 1.0, 0.4407128508418777),
    ),
    (
        (Surrogate("relu", "softplus"), 400, 1.97),
        {"input_correlation": 0.5},
        (0.0047372051714032306, 1.2934612809741398e-57, 1.6215735606004109e-40, 0.9997550356542437),
    ),
    (
        ("leaky_backward", 100, 0.3),
        {"stack": "residual", "input_correlation": 0.5},
        (4.949159280049214e17, 765.9683642380841, 0.9328617083830184, 0.9999999999997687),
    ),
    (
        ("elu", 60, 0.5),
        {"stack": "residual", "input_correlation": 0.5},
        (5482088795469.781, 794.1035929703199, 1.0, 0.9999999672440884),
    ),
    (
        ("sugar_bsilu", 150, 2.0),
        {"width": 128},
        (0.17285361234715765, 2.691403222352303e16, -0.0065711163975347405, None),
    ),
    (
        (Surrogate("tanh", "softsign"), 150, 1.2, 0.1),
        {"width": 50, "seed": 3},
        (0.37324875670553587, 2.25029766714947e-32, 0.09453351233031598, None),
    ),
]


@pytest.mark.parametrize(("arguments", "options", "expected"), RECORDED)
def test_hundreds_of_layers_are_as_computed_one_by_one(arguments, options, expected):
    prediction = theory.predict(*arguments, **options)
    found = [
        prediction.signal_variance[-1],
        prediction.gradient_norm[0],
        prediction.alignment[0],
        expected[3] and prediction.correlation[-1],
    ]
    for number, wanted in zip(found, expected, strict=True):
        # float32 noise and the vector instructions of other processors round differently.
        assert number == wanted if wanted is None else number == pytest.approx(wanted, rel=1e-9)


def test_networks_drawn_again_are_the_same(monkeypatch):
    pair = Surrogate("tanh", "softsign")
    options = {"bias_variance": 0.1, "width": 20, "draws": 20}
    in_parts = theory.predict(pair, 70, 1.2, **options)
    monkeypatch.setattr(finite_width, "_LAYERS", 1000)
    at_once = theory.predict(pair, 70, 1.2, **options)
    for name in ("signal_variance", "gradient_norm", "alignment"):
        np.testing.assert_array_equal(getattr(in_parts, name), getattr(at_once, name))


def peak(depth, **options):
    tracemalloc.start()
    try:
        theory.predict("relu", depth, 2.0, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("options", "depths"),
    [({"input_correlation": 0.5}, (600, 3000)), ({"width": 10_000, "draws": 20}, (200, 600))],
)
def test_memory_does_not_grow_with_the_depth(options, depths):
    """A layer took 260 kilobytes; its results and what names them take some hundred bytes."""
    shallow, deep = (peak(depth, **options) for depth in depths)
    assert (deep - shallow) / (depths[1] - depths[0]) < 2000


def test_a_network_too_deep_is_refused_in_one_line(capsys):
    message = f"depth must be an integer from 1 to {DEEPEST}, but is 1000000"
    with pytest.raises(ValueError, match=message):
        theory.predict("relu", 1_000_000, 2.0)
    with pytest.raises(ValueError, match=message):
        theory.recommend("relu", 1_000_000, 2.0)
    assert main(["predict", "--forward", "relu", "--depth", "1000000"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_width_too_small_for_the_depth_is_refused():
    with pytest.raises(ValueError, match="width 10 is too small for this depth: in layer"):
        theory.predict("linear", 2000, 0.82, width=10, draws=8)


def test_saturating_networks_may_be_far_deeper_than_wide():
    prediction = theory.predict("tanh", 1500, 4.0, width=5, draws=8)
    assert np.isfinite(prediction.signal_variance).all()

"""What `theory.predict` takes, against building random networks and measuring the same numbers on them."""

import statistics
import time

import numpy as np
import theory as random_networks
from peers_report import table

from keras_surrogate import presets, theory

WIDTH, PAIRS = 512, ("sugar_bsilu", "artificial_relu")
EXPLANATION = f"""\
Time of `theory.predict(pair, depth, weight_variance)`, for infinite width and for `width={WIDTH}`, against NumPy
networks of that depth and width through which random gradients are sent (`tests/benchmarks/theory.py`): one, and as
many as it takes for the standard errors below. Weights are those that keep the signal. Predictions are medians of five
calls, the networks of one pair and depth are timed together. `log10 ratio` is that of the first over the last layer's
gradient norm, `cosine` that of the first layer's gradient with the true one.
"""


def tables(effort):
    return "\n".join([EXPLANATION, *(_of_pair(pair, effort) for pair in PAIRS)])


def _of_pair(name, effort):
    pair = presets.get(name)
    variance = random_networks.critical(pair)
    headers = [
        "depth",
        "predict, ms",
        f"width {WIDTH}, ms",
        "1 network, s",
        f"{effort.draws} networks, s",
        f"/ width {WIDTH}",
    ]
    answers = [
        f"{what}, {how}"
        for what in ("log10 ratio", "cosine")
        for how in ("infinite", WIDTH, "measured")
    ]
    rows = [_row(pair, variance, depth, effort.draws) for depth in effort.depths]
    return table(f"{name}, weight variance {variance:.4g}", [*headers, *answers], rows)


def _row(pair, variance, depth, draws):
    infinite, infinite_seconds = _timed(lambda: theory.predict(pair, depth, variance))
    finite, finite_seconds = _timed(lambda: theory.predict(pair, depth, variance, width=WIDTH))
    random_networks.DEPTHS = (
        depth,
    )  # it would measure all of its depths on the way to the deepest
    _, one = _timed(lambda: random_networks.measure([(pair, variance)], WIDTH, 1))
    (ratios, cosines), many = _timed(
        lambda: random_networks.measure([(pair, variance)], WIDTH, draws), times=1
    )
    times = [
        f"{1e3 * infinite_seconds:.1f}",
        f"{1e3 * finite_seconds:.1f}",
        f"{one:.2f}",
        f"{many:.1f}",
    ]
    logarithms = [f"{np.log10(predicted.gradient_ratio):.2f}" for predicted in (infinite, finite)]
    alignments = [f"{predicted.alignment[0]:.3f}" for predicted in (infinite, finite)]
    measured = [_median(ratios, 2), _median(cosines, 3)]
    return [
        str(depth),
        *times,
        f"{many / finite_seconds:.0f}",
        *logarithms,
        measured[0],
        *alignments,
        measured[1],
    ]


def _timed(function, times=5):
    """The result, and the median of some times."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def _median(draws, digits):
    """The median over the networks with its standard error, as for normal ones."""
    return f"{np.nanmedian(draws):.{digits}f} +- {1.25 * np.nanstd(draws) / np.sqrt(draws.size):.{digits}f}"

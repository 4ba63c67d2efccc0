"""Means of few seeds and their intervals, against SciPy."""

import sys

import numpy as np
import pytest
from scipy import stats

from keras_surrogate.comparison import statistics


@pytest.mark.parametrize("degrees", [*range(1, 31), 99, 100, 1001])
def test_quantiles_are_scipys(degrees):
    for probability in (0.5, 0.6, 0.9, 0.95, 0.975, 0.995, 0.9999, 0.025, 0.001):
        expected = stats.t.ppf(probability, degrees)
        assert statistics.t_quantile(probability, degrees) == pytest.approx(
            expected, rel=1e-9, abs=1e-12
        )


@pytest.mark.parametrize(
    ("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.5, 0), (0.5, 2.5), (float("nan"), 2)]
)
def test_what_is_no_probability_or_no_degrees_is_refused(probability, degrees):
    with pytest.raises(ValueError, match="at least one degree of freedom"):
        statistics.t_quantile(probability, degrees)


@pytest.mark.parametrize("count", [2, 3, 5, 6, 20])
@pytest.mark.parametrize("confidence", [0.95, 0.9])
def test_paired_intervals_are_scipys(count, confidence):
    one, other = np.random.default_rng(count).normal(size=(2, count))
    found = statistics.interval(one - other, confidence)
    expected = stats.ttest_rel(one, other).confidence_interval(confidence)
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-9)
    assert found.mean == pytest.approx(np.mean(one) - np.mean(other))


def test_intervals_hold_the_mean_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    intervals = [statistics.interval(row) for row in draws]
    held = np.mean([each.low <= 3.0 <= each.high for each in intervals])
    assert held == pytest.approx(0.95, abs=0.01)


def test_one_number_has_a_mean_and_nothing_else():
    assert statistics.interval([0.5]) == statistics.Interval(0.5, None, None)
    assert statistics.standard_deviation([0.5]) is None
    assert statistics.standard_deviation([1.0, 3.0]) == pytest.approx(2**0.5)


def test_equal_numbers_have_an_interval_of_length_0():
    assert statistics.interval([0.25] * 3) == statistics.Interval(0.25, 0.25, 0.25)


def test_without_scipy_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        statistics.interval([0.1, 0.2])
    assert statistics.interval([0.1]).low is None

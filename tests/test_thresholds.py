"""Every module takes its thresholds from one place."""

import inspect

from keras_surrogate import plots, simulation, thresholds
from keras_surrogate.callbacks import GradientAlerts


def default(function, name):
    return inspect.signature(function).parameters[name].default


def test_the_bounds_are_in_order():
    assert 0 < thresholds.VANISHING_RESCALED < thresholds.VANISHING < 1
    assert 1 < thresholds.EXPLODING < thresholds.EXPLODING_NORMALISED
    assert 0 < thresholds.LOST < thresholds.MISALIGNED < 1


def test_alerts_pictures_and_simulations_use_them():
    assert default(GradientAlerts, "vanishing") == thresholds.VANISHING_RESCALED
    assert default(GradientAlerts, "exploding") == thresholds.EXPLODING_RUN
    assert default(GradientAlerts, "dead") == thresholds.DEAD
    assert default(plots.gradient_ratio, "vanishing") == thresholds.VANISHING_RESCALED
    for function in (simulation.shares, simulation.vanishing_rates, plots.gradient_distribution):
        assert default(function, "vanishing") == thresholds.VANISHED_IN_CENSUS
        assert default(function, "exploding") == thresholds.EXPLODED_IN_CENSUS

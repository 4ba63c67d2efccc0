"""The variance of weights, forward and backward, of a number or a Keras initializer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import keras

from keras_surrogate import functions

if TYPE_CHECKING:
    # Arguments of `weight_variance`.
    WeightsLike: TypeAlias = float | str | dict[str, object] | keras.initializers.Initializer | type

# The variance of a standard normal truncated at +-2, which `keras.initializers.TruncatedNormal`
# draws.
_TRUNCATED_VARIANCE = 0.774


def _normal(config: Mapping[str, float]) -> tuple[float, float]:
    return config["mean"], config["stddev"] ** 2


def _truncated_normal(config: Mapping[str, float]) -> tuple[float, float]:
    return config["mean"], _TRUNCATED_VARIANCE * config["stddev"] ** 2


def _uniform(config: Mapping[str, float]) -> tuple[float, float]:
    mean = (config["maxval"] + config["minval"]) / 2
    variance = (config["maxval"] - config["minval"]) ** 2 / 12
    return mean, variance


# Mean and variance of the initializers that do not depend on the layer's size.
_OF_GIVEN_SIZE: dict[type, Callable[[Mapping[str, float]], tuple[float, float]]] = {
    keras.initializers.RandomNormal: _normal,
    keras.initializers.TruncatedNormal: _truncated_normal,
    keras.initializers.RandomUniform: _uniform,
}


def variances(
    weights: WeightsLike, fans: tuple[float, float] | None = None, width: int | None = None
) -> tuple[float, float]:
    """sigma_w**2 of the forward pass, fan_in * Var(W), and of the backward pass, fan_out * Var(W).

    Args:
        weights: sigma_w**2 itself, in [0, inf); or a Keras initializer or its name. Initializers
            that scale with the layer: "he_normal", "glorot_uniform", `VarianceScaling`,
            `Orthogonal`, `CriticalNormal`. Others: `RandomNormal`, `TruncatedNormal` and
            `RandomUniform` with mean 0.
        fans: (fan_in, fan_out) of a layer; default (width, width), a stack of layers of one width.
            Both fans of a convolution include the kernel's size, as in Keras: 3 * 3 * channels.
        width: units of a layer, where `fans` is None.

    Raises:
        ValueError: a negative number, an initializer that is none of these, or one that needs the
            missing fans.
    """
    fan_in, fan_out = _checked(fans or (width or 1, width or 1))
    variance = _variance(weights, fan_in, fan_out, sized=bool(fans or width))
    return fan_in * variance, fan_out * variance


def _checked(fans: tuple[float, float]) -> list[float]:
    try:
        fan_in, fan_out = fans
    except TypeError:
        raise ValueError(
            f"predict: fans must be a pair (fan_in, fan_out), but is {fans!r}."
        ) from None
    return [
        functions.real_number(fan, "predict", "fans", "two positive numbers", lambda fan: fan > 0)
        for fan in (fan_in, fan_out)
    ]


def _variance(weights: WeightsLike, fan_in: float, fan_out: float, sized: bool) -> float:
    """Var(W)."""
    if not isinstance(weights, str | dict | keras.initializers.Initializer | type):
        scale = functions.real_number(
            weights,
            "predict",
            "weight_variance",
            "a number of at least 0, or a Keras initializer",
            lambda number: number >= 0,
        )
        return scale / fan_in
    initializer = keras.initializers.get(weights)
    if isinstance(initializer, keras.initializers.VarianceScaling):
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        return initializer.scale / fans[initializer.mode]
    if isinstance(initializer, keras.initializers.Orthogonal):
        return initializer.gain**2 / max(fan_in, fan_out)
    return _of_given_size(initializer, sized)


def _of_given_size(initializer: keras.initializers.Initializer, sized: bool) -> float:
    moments = _OF_GIVEN_SIZE.get(type(initializer))
    mean_and_variance = None if moments is None else moments(initializer.get_config())
    if mean_and_variance is None or mean_and_variance[0] != 0:
        raise ValueError(
            "The theory needs independent weights of mean 0, but the initializer is "
            f"{initializer!r}. Name one that draws such weights "
            '("he_normal", "glorot_uniform", "orthogonal", RandomNormal), or give weight_variance '
            "as a number."
        )
    if not sized:
        raise ValueError(
            f"{type(initializer).__name__} has the same variance in layers of any size, so that "
            "the theory must know the size: give width=, or fans=(fan_in, fan_out)."
        )
    return mean_and_variance[1]

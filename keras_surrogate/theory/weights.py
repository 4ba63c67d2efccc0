"""From a number or a Keras initializer to the variance of weights, seen by the signal and seen by the gradient."""

import keras

from keras_surrogate import functions

# Of a standard normal truncated at +-2, which is what `keras.initializers.TruncatedNormal` draws.
_TRUNCATED_VARIANCE = 0.774
_OF_GIVEN_SIZE = {
    keras.initializers.RandomNormal: lambda config: (config["mean"], config["stddev"] ** 2),
    keras.initializers.TruncatedNormal: lambda config: (
        config["mean"],
        _TRUNCATED_VARIANCE * config["stddev"] ** 2,
    ),
    keras.initializers.RandomUniform: lambda config: (
        (config["maxval"] + config["minval"]) / 2,
        (config["maxval"] - config["minval"]) ** 2 / 12,
    ),
}


def variances(weights, fans=None, width=None):
    """sigma_w**2 of the forward pass, fan_in * Var(W), and of the backward pass, fan_out * Var(W).

    Args:
        weights: sigma_w**2 itself, in [0, inf); or a Keras initializer or its name: one that scales
            with the layer ("he_normal", "glorot_uniform", `VarianceScaling`, `Orthogonal`,
            `CriticalNormal`), or a `RandomNormal`, `TruncatedNormal` or `RandomUniform` with mean
            0.
        fans: (fan_in, fan_out) of a layer; default (width, width), a stack of layers of one width.
            Of a convolution both include the kernel's size, as Keras counts: 3 * 3 * channels.
        width: units of a layer, where `fans` is None.

    Raises:
        ValueError: a negative number, an initializer that is none of these, or one that needs the
            missing fans.
    """
    fan_in, fan_out = _checked(fans or (width or 1,) * 2)
    variance = _variance(weights, fan_in, fan_out, sized=bool(fans or width))
    return fan_in * variance, fan_out * variance


def _checked(fans):
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


def _variance(weights, fan_in, fan_out, sized):
    if not isinstance(weights, str | dict | keras.initializers.Initializer | type):
        meaning = "a number of at least 0, or a Keras initializer"
        return (
            functions.real_number(
                weights, "predict", "weight_variance", meaning, lambda number: number >= 0
            )
            / fan_in
        )
    initializer = keras.initializers.get(weights)
    if isinstance(initializer, keras.initializers.VarianceScaling):
        return initializer.scale / {"fan_in": fan_in, "fan_out": fan_out}.get(
            initializer.mode, (fan_in + fan_out) / 2
        )
    if isinstance(initializer, keras.initializers.Orthogonal):
        return initializer.gain**2 / max(fan_in, fan_out)
    return _of_given_size(initializer, sized)


def _of_given_size(initializer, sized):
    moments = _OF_GIVEN_SIZE.get(type(initializer))
    mean, variance = moments(initializer.get_config()) if moments else (None, None)
    if mean != 0:
        raise ValueError(
            f"The theory needs independent weights of mean 0, but the initializer is {initializer!r}. "
            f"Name one that draws them "
            '("he_normal", "glorot_uniform", "orthogonal", RandomNormal), or give weight_variance as a number.'
        )
    if not sized:
        raise ValueError(
            f"{type(initializer).__name__} has the same variance in layers of any size, so the theory "
            f"must know the size: "
            "give width=, or fans=(fan_in, fan_out)."
        )
    return variance

"""The network of a case, and its initial state from a seed."""

import dataclasses
import itertools

import keras
import numpy as np

from keras_surrogate.comparison import notation
from keras_surrogate.comparison.outlook import KERNEL
from keras_surrogate.layers import SurrogateActivation

_NORMALIZATIONS = {
    "batch": keras.layers.BatchNormalization,
    "layer": keras.layers.LayerNormalization,
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A built network.

    Attributes:
        model: from images to logits.
        pre_activations: symbolic tensors, what enters the activation of each hidden layer, first
            layer first.
        outputs: likewise, what leaves it.
        activations: the `SurrogateActivation` of each hidden layer.
        hidden: the Dense layers or convolutions, whose kernels the case's initializer draws.
    """

    model: keras.Model
    pre_activations: list
    outputs: list
    activations: list
    hidden: list


def build(case, shape, classes, surrogate, initializer):
    """The `Network` of a case for images of that shape.

    Raises:
        ValueError: the images are too small for so many pools.
    """
    check_pools(case, shape)
    inputs = keras.Input(shape)
    x = keras.layers.Flatten()(inputs) if case.network == "mlp" else _with_channels(inputs)
    network = Network(None, [], [], [], [])
    for number in range(case.depth):
        layer = _layer(case, number, initializer)
        network.hidden.append(layer)
        network.pre_activations.append(_normalized(case, layer(x)))
        network.activations.append(SurrogateActivation(surrogate))
        network.outputs.append(network.activations[-1](network.pre_activations[-1]))
        x = (
            keras.layers.Add()([x, network.outputs[-1]])
            if case.residual and number
            else network.outputs[-1]
        )
        x = keras.layers.MaxPooling2D()(x) if case.network == "vgg" and number % 2 else x
    logits = keras.layers.Dense(classes)(keras.layers.Flatten()(x))
    return dataclasses.replace(network, model=keras.Model(inputs, logits))


def check_pools(case, shape):
    """Raises a ValueError if images of that shape are too small for the case's pools."""
    side = min(shape[:2])
    if case.network == "vgg" and side < 2 ** (case.depth // 2):
        most = 2 * int(np.log2(side)) + 1
        raise ValueError(
            f"Case: a vgg for {case.data}, of {side} x {side} pixels, has at most depth {most}."
        )


def _with_channels(inputs):
    return (
        inputs if len(inputs.shape) == 4 else keras.layers.Reshape((*inputs.shape[1:], 1))(inputs)
    )


def _layer(case, number, initializer):
    options = {
        "kernel_initializer": initializer,
        "bias_initializer": keras.initializers.Constant(case.bias),
    }
    if case.network == "mlp":
        return keras.layers.Dense(case.width, **options)
    return keras.layers.Conv2D(case.width * 2 ** (number // 2), KERNEL, padding="same", **options)


def _normalized(case, x):
    return x if case.normalization == "none" else _NORMALIZATIONS[case.normalization]()(x)


class State:
    """All variables of a model and its optimizer, as they were when this was made, but for the kernels.

    Args:
        model: a built model.
        optimizer: a built optimizer.
    """

    def __init__(self, model, optimizer):
        drawn = [
            (layer.kernel, layer.kernel_initializer)
            for layer in model.layers
            if hasattr(layer, "kernel")
        ]
        self._kernels = [
            (variable, type(initializer), initializer.get_config())
            for variable, initializer in drawn
        ]
        kernels = {id(variable) for variable, _ in drawn}
        others = [
            variable
            for variable in [*model.variables, *optimizer.variables]
            if id(variable) not in kernels
        ]
        self._others = [(variable, np.array(variable)) for variable in others]

    def reset(self, seed):
        """The state from which training starts. Kernels depend on seed, shape and number, and on nothing else."""
        for variable, value in self._others:
            variable.assign(value)
        for number, (variable, kind, config) in enumerate(self._kernels):
            seeded = {"seed": derived_seed(seed, number)} if "seed" in config else {}
            variable.assign(kind.from_config({**config, **seeded})(variable.shape, variable.dtype))


def derived_seed(seed, number):
    """A seed of its own for each number."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


def batches(seed, epoch, images, batch_size):
    """The order of an epoch: places of images, shape (steps, batch_size)."""
    order = np.random.default_rng(np.random.SeedSequence([seed, epoch, images])).permutation(images)
    steps = images // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size).astype("int32")


def build_optimizer(case, network):
    """The optimizer of a case, with the learning rate of each layer multiplied by its power of `layer_rate`."""
    cls, rate = notation.optimizer(case.optimizer)
    if case.layer_rate == 1:
        optimizer = cls(rate)
    else:
        powers = case.layer_rate ** np.arange(case.depth, 0, -1.0)
        pairs = zip(_groups(network), powers, strict=True)
        factors = {
            id(variable.value): factor for variables, factor in pairs for variable in variables
        }
        optimizer = _with_layer_rates(cls)(rate)
        optimizer.factors = factors
    optimizer.build(network.model.trainable_variables)
    return optimizer


def _groups(network):
    """The trainable variables of each hidden layer, with those of its normalisation."""
    layers = network.model.layers
    places = [layers.index(layer) for layer in network.hidden]
    ends = [*places[1:], len(layers) - 1]
    for start, end in itertools.zip_longest(places, ends):
        yield [variable for layer in layers[start:end] for variable in layer.trainable_variables]


def _with_layer_rates(cls):
    """A subclass of an optimizer's class whose `factors` multiply the learning rate of a variable, found by its id."""

    class WithLayerRates(cls):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(
                gradient, variable, learning_rate * self.factors.get(id(variable), 1.0)
            )

    return WithLayerRates

"""The network of a case, and its initial state from a seed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_surrogate.comparison import notation
from keras_surrogate.comparison.families import FAMILIES
from keras_surrogate.optimizers import LayerRates

if TYPE_CHECKING:
    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.surrogate import Surrogate


@dataclasses.dataclass(frozen=True)
class BuiltNetwork:
    """A built network.

    Attributes:
        model: from images to logits.
        pre_activations: symbolic tensors, the input of each hidden layer's activation, first layer
            first.
        outputs: symbolic tensors, the output of each hidden layer's activation.
        activations: the layer of each hidden layer's activation.
        hidden: the Dense layers or convolutions, whose kernels the case's initializer draws.
    """

    model: keras.Model
    pre_activations: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    activations: list[keras.layers.Layer]
    hidden: list[keras.layers.Layer]


def build(
    case: Case,
    shape: tuple[int, ...],
    classes: int,
    surrogate: Surrogate,
    initializer: keras.initializers.Initializer,
) -> BuiltNetwork:
    """The `BuiltNetwork` of a case for images of that shape.

    Raises:
        ValueError: the images are too small for so many pools.
    """
    family = FAMILIES[case.network]
    family.check(case, shape)
    inputs = keras.Input(shape)
    x = family.enter(inputs)
    options = {
        "kernel_initializer": initializer,
        "bias_initializer": keras.initializers.Constant(case.bias),
    }
    pre_activations = []
    outputs = []
    activations = []
    hidden = []
    for number in range(case.depth):
        layer = family.layer(case, number, **options)
        activation = family.activation(surrogate)
        pre_activation = family.before_activation(number, _normalized(case, layer(x)))
        output = activation(pre_activation)
        hidden.append(layer)
        activations.append(activation)
        pre_activations.append(pre_activation)
        outputs.append(output)

        has_bypass = case.residual and number > 0
        x = keras.layers.Add()([x, output]) if has_bypass else output
        x = family.after(number, x)
    logits = keras.layers.Dense(classes)(family.leave(x))
    return BuiltNetwork(keras.Model(inputs, logits), pre_activations, outputs, activations, hidden)


def _normalized(case: Case, x: keras.KerasTensor) -> keras.KerasTensor:
    kind, momentum = notation.normalization(case.normalization)
    if kind == "none":
        return x
    if kind == "layer":
        return keras.layers.LayerNormalization()(x)
    return keras.layers.BatchNormalization(momentum=momentum)(x)


class State:
    """The initial values of all variables of a model and its optimizer, except the kernels.

    Args:
        model: a built model.
        optimizer: a built optimizer.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
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

    def reset(self, seed: int) -> None:
        """Restore the initial values and draw the kernels, from seed, shape and number only."""
        for variable, value in self._others:
            variable.assign(value)
        for number, (variable, kind, config) in enumerate(self._kernels):
            if "seed" in config:
                config = {**config, "seed": derived_seed(seed, number)}
            variable.assign(kind.from_config(config)(variable.shape, variable.dtype))


def derived_seed(seed: int, number: int) -> int:
    """A different seed for each number."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


def batches(seed: int, epoch: int, images: int, batch_size: int) -> np.ndarray:
    """The order of an epoch: places of images, shape (steps, batch_size)."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch, images]))
    order = generator.permutation(images)
    steps = images // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size).astype("int32")


def build_optimizer(case: Case, network: BuiltNetwork) -> keras.optimizers.Optimizer:
    """The optimizer of a case; each layer's learning rate is times a power of `layer_rate`."""
    make, rate = notation.optimizer(case.optimizer)
    optimizer = make(rate)
    if case.layer_rate != 1:
        powers = case.layer_rate ** np.arange(case.depth, 0, -1.0)
        pairs = zip(_groups(network), powers, strict=True)
        factors = {layer.name: factor for layers, factor in pairs for layer in layers}
        optimizer = LayerRates(optimizer, factors)
    optimizer.build(network.model.trainable_variables)
    return optimizer


def _groups(network: BuiltNetwork) -> Iterator[list[keras.layers.Layer]]:
    """The layers with trainable weights of each hidden layer: itself and its normalisation."""
    layers = network.model.layers
    places = [layers.index(layer) for layer in network.hidden]
    ends = [*places[1:], len(layers) - 1]
    for start, end in itertools.zip_longest(places, ends):
        yield [layer for layer in layers[start:end] if layer.trainable_variables]

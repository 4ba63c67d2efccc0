"""Translation of Keras's activations to functions of the collection, and back."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from keras_surrogate import activations, functions
from keras_surrogate.conversion import layer_tree


@dataclasses.dataclass(frozen=True)
class Site:
    """One activation within a model.

    Attributes:
        place: the place of the layer that holds it, or that is the activation.
        slot: the attribute of the layer that holds it; None where the layer is the activation.
        name: its name.
        function: its function with its parameters; None where the collection has no equal one.
    """

    place: layer_tree.Place
    slot: str | None
    name: str
    function: functions.Function | None

    @property
    def layer(self) -> keras.layers.Layer:
        return self.place.layer

    @property
    def path(self) -> str:
        return f"{self.place.path}.{self.slot}" if self.slot else self.place.path


def sites(places: Iterable[layer_tree.Place]) -> Iterator[Site]:
    """A site for each elementwise activation in some places, in their order."""
    for place in places:
        for slot, value in layer_tree.slots(place.layer).items():
            found = activations.of_callable(value)
            if found:
                yield Site(place, slot, found.name, found.function)
        found = activations.of_layer(place.layer)
        if found:
            yield Site(place, None, found.name, found.function)


@dataclasses.dataclass(frozen=True)
class Operation:
    """An activation that a functional model computes on Keras tensors, without a layer.

    Attributes:
        path: the model's.
        name: the name of its function.
        calls: the names of the operations, as in the model's summary.
    """

    path: str
    name: str
    calls: tuple[str, ...]

    @property
    def in_words(self) -> str:
        times = "once" if len(self.calls) == 1 else f"{len(self.calls)} times"
        return (
            f"calls keras.ops.{self.name} {times} ({', '.join(self.calls)}), which is an operation "
            f'and not a layer: use keras.layers.Activation("{self.name}")(x) or '
            "keras_surrogate.get(...)(x) instead"
        )


def operations(places: Iterable[layer_tree.Place]) -> Iterator[Operation]:
    """An operation for each activation that a functional model computes without a layer."""
    names = {name.replace("_", ""): name for name in functions.names()}
    for place in places:
        calls = collections.defaultdict(list)
        for operation in getattr(place.layer, "operations", []):
            name = names.get(type(operation).__name__.lower())
            if name and not isinstance(operation, keras.layers.Layer):
                calls[name].append(operation.name)
        for name, found in calls.items():
            yield Operation(place.path, name, tuple(found))


def keras_activation(
    function: functions.Function,
) -> str | Callable | keras.layers.Layer | None:
    """The `activation=` argument for a function: a name, a callable or a layer, or None."""
    return _keras_name(function) or keras_layer(function)


def keras_layer(function: functions.Function, **kwargs: Any) -> keras.layers.Layer | None:
    """The Keras layer that computes a function, made with `kwargs`, or None."""
    if isinstance(function, functions.Relu):
        return keras.layers.ReLU(**kwargs)
    if isinstance(function, functions.Relu6):
        return keras.layers.ReLU(max_value=6.0, **kwargs)
    if isinstance(function, functions.ClippedRelu):
        return keras.layers.ReLU(max_value=function.max_value, **kwargs)
    if isinstance(function, functions.LeakyRelu):
        return keras.layers.LeakyReLU(function.negative_slope, **kwargs)
    if isinstance(function, functions.Elu):
        # The default is left out, because the configuration of ELU holds only what was given.
        if function.alpha != 1:
            kwargs["alpha"] = function.alpha
        return keras.layers.ELU(**kwargs)
    if isinstance(function, functions.Threshold) and function.default_value == 0:
        return keras.layers.ReLU(threshold=function.threshold, **kwargs)
    activation = _keras_name(function)
    return activation and keras.layers.Activation(activation, **kwargs)


def _keras_name(function):
    """The name in keras.activations, or the user's own callable, or None."""
    if isinstance(function, functions.FromCallable):
        return function.function
    name = function.title
    # keras.activations.threshold has no defaults, so that its name alone is no activation.
    if name not in dir(keras.activations) or name == "threshold":
        return None
    return name if function == functions.get(name) else None

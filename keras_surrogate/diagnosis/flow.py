"""The graph of the called layers, found by their tensors, and what it shows of the model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping

import keras
import tensorflow as tf

from keras_surrogate.conversion import layer_tree
from keras_surrogate.diagnosis import measuring
from keras_surrogate.recording import names


class Flow:
    """The path of the signal through the layers that were called.

    Args:
        calls: as in `passes.Pass`.
        x: the inputs of the model.
        layers: the layers that have a row, by name.

    Attributes:
        layers: the same.
        own: from each layer's name to its trainable variables without those of the layers within it
            that have a row.
        order: the names of the called layers, in the order of their calls.
        reads: from each called layer to the layers whose outputs it takes, by name. None stands for
            an operation between layers; the inputs of the model are left out.
    """

    layers: Mapping[str, keras.layers.Layer]
    own: dict[str, list[keras.Variable]]
    order: list[str]
    reads: dict[str, tuple[str | None, ...]]

    def __init__(
        self,
        calls: Mapping[int, list[tuple[list[tf.Tensor], list[tf.Tensor]]]],
        x: object,
        layers: Mapping[str, keras.layers.Layer],
    ) -> None:
        by_id = {id(layer): name for name, layer in layers.items()}
        self.order = [by_id[key] for key in calls]
        self.layers = layers
        self.own = own_variables(layers)
        self._kernels = {name: measuring.kernel_of(own) for name, own in self.own.items()}
        self._holders = _holders(layers)
        self._calls = {by_id[key]: pairs for key, pairs in calls.items()}
        self._x = [leaf for leaf in keras.tree.flatten(x) if leaf.dtype.is_floating]
        self._makers = {}
        for place, name in enumerate(self.order):
            for tensor in self.outputs(name):
                self._makers.setdefault(id(tensor), []).append((place, name))
        self.reads = {name: self._read_by(place, name) for place, name in enumerate(self.order)}

    def kernel(self, name: str) -> keras.Variable | None:
        """The first of a layer's own trainable variables that has at least two axes, or None."""
        return self._kernels[name]

    def holder(self, name: str) -> str | None:
        """The innermost layer with a row of its own that holds another one, by name, or None."""
        return self._holders.get(name)

    def inputs(self, name: str) -> list[tf.Tensor]:
        """The floating inputs of a layer."""
        return [tensor for inputs, _ in self._calls.get(name, []) for tensor in inputs]

    def outputs(self, name: str) -> list[tf.Tensor]:
        """The floating outputs of a layer."""
        return [tensor for _, outputs in self._calls.get(name, []) for tensor in outputs]

    def _read_by(self, place, name):
        makers = [
            self._maker(tensor, place, name)
            for tensor in self.inputs(name)
            if not self._is_input(tensor)
        ]
        return tuple(dict.fromkeys(makers))

    def _maker(self, tensor, place, reader):
        """The layer that returned a tensor: of several, the last one before the reader."""
        makers = [(at, name) for at, name in self._makers.get(id(tensor), []) if name != reader]
        before = [name for at, name in makers if at < place]
        if before:
            return before[-1]
        return makers[0][1] if makers else None

    def _is_input(self, tensor):
        """True for an input of the model, also in another precision."""
        if id(tensor) in self._makers:
            return False
        alike = [leaf for leaf in self._x if leaf.shape == tensor.shape]
        return any(
            leaf is tensor or bool(tf.reduce_all(tf.cast(leaf, tensor.dtype) == tensor))
            for leaf in alike
        )

    def readers(self, name: str) -> list[str]:
        """The layers that take the outputs of a layer."""
        return [other for other in self.order if name in self.reads[other]]

    def strange(self, name: str) -> list[tf.Tensor]:
        """The inputs of a layer that are neither outputs of layers nor inputs of the model."""
        unmade = [tensor for tensor in self.inputs(name) if id(tensor) not in self._makers]
        return [tensor for tensor in unmade if not self._is_input(tensor)]

    @functools.cached_property
    def _before(self):
        """From each layer to all layers on the way to it."""
        found = {}
        for name in self.order:
            known = [other for other in self.reads[name] if other in found]
            found[name] = set(known).union(*(found[other] for other in known))
        return found

    def knows(self, name: str) -> bool:
        """True if no operation between layers is on the way to a layer."""
        return not any(None in self.reads[other] for other in {name, *self._before[name]})

    def joins_skip(self, name: str) -> bool:
        """True if a layer joins a tensor with one computed from it: a residual connection."""
        read = [other for other in self.reads[name] if other is not None]
        return any(one in self._before[other] for one in read for other in read)

    def reaches(
        self,
        name: str,
        stops: Callable[[str], bool],
        passes: Callable[[str], bool] = lambda name: True,
    ) -> bool:
        """True if the way back from a layer's inputs leads to a layer that is looked for.

        Args:
            name: the layer.
            stops: a function from a name to True if it is looked for.
            passes: a function from a name to True if the search goes on before it; default all.
        """
        seen = set()
        ahead = list(self.reads[name])
        while ahead:
            other = ahead.pop()
            if other is None or other in seen:
                continue
            seen.add(other)
            if stops(other):
                return True
            if passes(other):
                ahead.extend(self.reads[other])
        return False


def normalises(layer: keras.layers.Layer) -> bool:
    """True if the class name of a layer, or of a layer within it, is that of a normalisation."""
    return any(
        type(place.layer).__name__.endswith(("Normalization", "Norm"))
        for place in layer_tree.walk(layer)
    )


def is_opaque(layer: keras.layers.Layer, shown: Collection[int]) -> bool:
    """True if a layer holds layers with weights that have no row; its activations do not count.

    Args:
        layer: the layer.
        shown: ids of the layers that have a row.
    """
    hidden = [
        place
        for place in layer_tree.walk(layer)
        if place.layer is not layer and place.owner is None and id(place.layer) not in shown
    ]
    return any(place.layer.weights for place in hidden)


def own_variables(
    layers: Mapping[str, keras.layers.Layer],
) -> dict[str, list[keras.Variable]]:
    """Each layer's trainable variables, without those of the given layers within it."""
    shown = {id(layer) for layer in layers.values()}
    own = {}
    for name, layer in layers.items():
        within = [inner for inner in names.everything_within(layer) if id(inner) in shown]
        taken = {id(variable) for inner in within for variable in inner.trainable_variables}
        own[name] = [v for v in layer.trainable_variables if id(v) not in taken]
    return own


def _holders(layers: Mapping[str, keras.layers.Layer]) -> dict[str, str]:
    """From a layer's name to the name of the innermost of the others that holds it."""
    by_id = {id(layer): name for name, layer in layers.items()}
    holders = {}
    # Inner layers stand before the one that holds them, so that the first holder is the innermost.
    for name, layer in layers.items():
        for inner in names.everything_within(layer):
            if id(inner) in by_id:
                holders.setdefault(by_id[id(inner)], name)
    return holders

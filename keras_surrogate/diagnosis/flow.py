"""Which layer takes the output of which, told by the tensors themselves; and what follows for the architecture."""

import functools

import keras
import tensorflow as tf

from keras_surrogate.conversion import layer_tree
from keras_surrogate.diagnosis import measuring
from keras_surrogate.recording import names


class Flow:
    """The road of the signal through the layers that were called.

    Args:
        calls: as in `passes.Pass`.
        x: the tensors that the model was called on.
        layers: a dictionary from name to layer.

    Attributes:
        order: the names of the called layers, in the order of their calls.
        reads: of each, the layers whose outputs it takes, by name; None stands for an operation
            between layers, the inputs of the model for nothing.
    """

    def __init__(self, calls, x, layers):
        by_id = {id(layer): name for name, layer in layers.items()}
        self.order = [by_id[key] for key in calls]
        self.layers = layers
        self.own = _own_variables(layers)
        self._kernels = {name: measuring.kernel_of(own) for name, own in self.own.items()}
        self._holders = _holders(layers)
        self._calls = {by_id[key]: pairs for key, pairs in calls.items()}
        self._x = [leaf for leaf in keras.tree.flatten(x) if leaf.dtype.is_floating]
        self._makers = {}
        for place, name in enumerate(self.order):
            for tensor in self.outputs(name):
                self._makers.setdefault(id(tensor), []).append((place, name))
        self.reads = {name: self._read_by(place, name) for place, name in enumerate(self.order)}

    def kernel(self, name):
        """The first of a layer's own trainable variables that has at least two axes, or None."""
        return self._kernels[name]

    def holder(self, name):
        """The innermost layer with a row of its own that holds another one, by name, or None."""
        return self._holders.get(name)

    def inputs(self, name):
        """The floating tensors that went into a layer."""
        return [tensor for inputs, _ in self._calls.get(name, []) for tensor in inputs]

    def outputs(self, name):
        """Those that came out of it."""
        return [tensor for _, outputs in self._calls.get(name, []) for tensor in outputs]

    def _read_by(self, place, name):
        makers = [
            self._maker(tensor, place, name)
            for tensor in self.inputs(name)
            if not self._is_input(tensor)
        ]
        return tuple(dict.fromkeys(makers))

    def _maker(self, tensor, place, reader):
        """The layer that gave a tensor: of several that passed it on, the last one before the reader."""
        makers = [(at, name) for at, name in self._makers.get(id(tensor), []) if name != reader]
        before = [name for at, name in makers if at < place]
        return before[-1] if before else makers[0][1] if makers else None

    def _is_input(self, tensor):
        """Whether it is one of the model's inputs, or its like in another precision."""
        if id(tensor) in self._makers:
            return False
        alike = [leaf for leaf in self._x if leaf.shape == tensor.shape]
        return any(
            leaf is tensor or bool(tf.reduce_all(tf.cast(leaf, tensor.dtype) == tensor))
            for leaf in alike
        )

    def readers(self, name):
        """The layers that take its output."""
        return [other for other in self.order if name in self.reads[other]]

    def strange(self, name):
        """The tensors that went into a layer and came out of none."""
        return [t for t in self.inputs(name) if id(t) not in self._makers and not self._is_input(t)]

    @functools.cached_property
    def _before(self):
        """All layers on the way to each."""
        found = {}
        for name in self.order:
            known = [other for other in self.reads[name] if other in found]
            found[name] = set(known).union(*(found[other] for other in known))
        return found

    def knows(self, name):
        """Whether no operation between layers lies on the way to a layer."""
        return not any(None in self.reads[other] for other in {name, *self._before[name]})

    def joins_skip(self, name):
        """Whether a layer joins something with what was made from it, as a residual connection does."""
        read = [other for other in self.reads[name] if other is not None]
        return any(one in self._before[other] for one in read for other in read)

    def reaches(self, name, stops, passes=lambda name: True):
        """Whether on the way back from a layer's input one comes to a layer that `stops` says.

        Args:
            stops: from a name to whether it is looked for.
            passes: from a name to whether the search goes on before it.
        """
        seen, ahead = set(), list(self.reads[name])
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


def normalises(layer):
    """Whether a layer normalises what goes through it, to judge by its class's name or by those of the layers in it."""
    return any(
        type(place.layer).__name__.endswith(("Normalization", "Norm"))
        for place in layer_tree.walk(layer)
    )


def is_opaque(layer, shown):
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


def _own_variables(layers):
    """Each layer's trainable variables without those of layers within it that are in `layers` too."""
    shown = {id(layer) for layer in layers.values()}
    own = {}
    for name, layer in layers.items():
        within = [inner for inner in names.everything_within(layer) if id(inner) in shown]
        taken = {id(variable) for inner in within for variable in inner.trainable_variables}
        own[name] = [v for v in layer.trainable_variables if id(v) not in taken]
    return own


def _holders(layers):
    """From a layer's name to the name of the innermost of the others that holds it."""
    by_id = {id(layer): name for name, layer in layers.items()}
    holders = {}
    # Inner layers stand before the one that holds them, so that the first holder is the innermost.
    for name, layer in layers.items():
        for inner in names.everything_within(layer):
            if id(inner) in by_id:
                holders.setdefault(by_id[id(inner)], name)
    return holders

"""The weights that lead into each unit of a layer, and those that lead out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.activations import activation_of
from keras_surrogate.diagnosis import passes
from keras_surrogate.diagnosis.flow import Flow
from keras_surrogate.recording import names, unit_quantities

_WITH_KERNEL = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)
# Layers that change each unit by itself, and keep the units on the last axis.
_UNITWISE = (
    keras.layers.Activation,
    keras.layers.AlphaDropout,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
    keras.layers.LeakyReLU,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.ReLU,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
)


class NotSeparableError(ValueError):
    """The weights of a layer's units cannot be told apart from those of others."""


@dataclasses.dataclass(frozen=True)
class Incoming:
    """A variable that belongs to the units.

    Attributes:
        variable: the variable, with the units on its last axis.
        initializer: the initializer that its layer was created with.
    """

    variable: keras.Variable
    initializer: object


@dataclasses.dataclass(frozen=True)
class Outgoing:
    """A kernel that reads the units.

    Attributes:
        kernel: the variable.
        axis: the axis along which the units lie.
        places: for each unit its places on this axis; behind a Flatten a unit has several. Shape
            (units, places).
    """

    kernel: keras.Variable
    axis: int
    places: np.ndarray


@dataclasses.dataclass(frozen=True)
class UnitGroup:
    """The units of one layer.

    Attributes:
        name: the name of the layer.
        layer: the layer, with a kernel.
        count: the number of units.
        incoming: its kernel and bias, and the variables of a BatchNormalization behind it.
        outgoing: the kernels that read the units.
        activated: the names of the layers whose outputs are those of the units, after their
            activation.
    """

    name: str
    layer: keras.layers.Layer
    count: int
    incoming: tuple[Incoming, ...]
    outgoing: tuple[Outgoing, ...]
    activated: tuple[str, ...]


class Units:
    """The groups of units of a model, found by one call of it.

    Args:
        model: a built Keras model.
        x: one batch, as tensors.

    Attributes:
        groups: a `UnitGroup` for each layer whose units can be told apart, by the layer's name.
        refused: for each other layer with a kernel and an activation behind it, the reason.
        linear: the same for those whose way ends before an activation.
    """

    groups: dict[str, UnitGroup]
    refused: dict[str, str]
    linear: dict[str, str]

    def __init__(self, model: keras.Model, x: object) -> None:
        self._layers = names.layers_by_name(model)
        self._model = model
        with passes.unchanged(model), passes.seen(self._layers.values()) as calls:
            outputs = model(x, training=False)
        self._flow = Flow(calls, x, self._layers)
        self._returned = set(map(id, keras.tree.flatten(outputs)))
        self.groups = {}
        self.refused = {}
        self.linear = {}
        for name in self._flow.order:
            if not self._has_kernel(name):
                continue
            walk = _Walk(self._flow, name, self._returned)
            try:
                group = walk.group()
                if group.activated:
                    self._check_alone(group, x)
                    self.groups[name] = group
            except NotSeparableError as error:
                kept = self.refused if walk.activated else self.linear
                kept[name] = str(error)

    def _has_kernel(self, name: str) -> bool:
        return isinstance(self._layers[name], _WITH_KERNEL)

    def _check_alone(self, group: UnitGroup, x: object) -> None:
        """Check that the units reach the outputs through the known kernels only.

        With these kernels at 0 the outputs must not depend on the units. Operations between layers
        are found in this way.
        """
        kernels = [one.kernel for one in group.outgoing]
        held = [tf.identity(kernel.value) for kernel in kernels]
        try:
            for one in group.outgoing:
                assign(one.kernel, one.axis, one.places.ravel(), 0.0)
            others = passes.depends(self._model, x, [one.variable for one in group.incoming])
        finally:
            for kernel, value in zip(kernels, held, strict=True):
                kernel.assign(value)
        if others:
            raise NotSeparableError("an operation between layers reads its outputs")

    def sizes(self, x: object, groups: Mapping[str, UnitGroup]) -> dict[str, np.ndarray]:
        """The mean of abs(output) of each unit for one batch, by the name of the group.

        The model is called in inference mode, and nothing in it changes.
        """
        wanted = {name for group in groups.values() for name in group.activated}
        layers = {name: self._layers[name] for name in wanted}
        with passes.unchanged(self._model), passes.seen(layers.values()) as calls:
            self._model(x, training=False)
        found = {}
        for name, group in groups.items():
            means = [
                unit_quantities.unit_sizes(layers[one], [outputs[0]])
                for one in group.activated
                for _, outputs in calls[id(layers[one])]
            ]
            found[name] = np.mean([mean.numpy() for mean in means], axis=0)
        return found


class _Walk:
    """The way from a layer's outputs to the kernels that read them.

    Attributes:
        activated: the names of the layers found, as in `UnitGroup`.
    """

    activated: list[str]

    def __init__(self, flow: Flow, name: str, returned: set[int]) -> None:
        self._flow = flow
        self._returned = returned
        self._name = name
        layer = flow.layers[name]
        self._count = int(layer.kernel.shape[-1])
        self._incoming = [Incoming(layer.kernel, layer.kernel_initializer)]
        if layer.use_bias:
            self._incoming.append(Incoming(layer.bias, layer.bias_initializer))
        self._outgoing: list[Outgoing] = []
        self.activated = []

    def group(self) -> UnitGroup:
        flow = self._flow
        _check_plain(flow.layers[self._name])
        # The layers whose outputs are the units; each with True behind an activation, and with the
        # number of places of a unit.
        ahead = [(self._name, _activates(flow.layers[self._name]), 1)]
        if ahead[0][1]:
            self.activated.append(self._name)
        passed = {self._name}
        while ahead:
            name, activated, places = ahead.pop()
            if any(id(tensor) in self._returned for tensor in flow.outputs(name)):
                if not activated:
                    # Outputs of the model without an activation are no hidden units.
                    self.activated = []
                    break
                raise NotSeparableError("its outputs are outputs of the model")
            for reader in flow.readers(name):
                step = self._step(reader, activated, places, passed)
                passed.add(reader)
                if step is not None:
                    ahead.append(step)
        return UnitGroup(
            self._name,
            flow.layers[self._name],
            self._count,
            tuple(self._incoming),
            tuple(self._outgoing),
            tuple(self.activated),
        )

    def _step(
        self, name: str, activated: bool, places: int, passed: set[str]
    ) -> tuple[str, bool, int] | None:
        """What to follow behind a reader; None where its kernel ends the way."""
        layer = self._flow.layers[name]
        if name in passed:
            return None
        # A layer that also reads other layers would be changed for these too.
        foreign = [other for other in self._flow.reads[name] if other not in passed]
        if foreign or _is_called_with_input(self._flow, name):
            raise NotSeparableError(f"{name} is shared: it reads other layers too")
        if isinstance(layer, _WITH_KERNEL):
            self._outgoing.append(self._read_by(layer, places))
            return None
        if isinstance(layer, keras.layers.BatchNormalization):
            _check_last_axis(name, layer)
            if not layer.trainable:
                raise NotSeparableError(f"{name} is frozen (trainable=False)")
            self._incoming += _normalisation(layer)
            return name, activated, places
        if isinstance(layer, keras.layers.Flatten):
            size = int(np.prod(self._flow.inputs(name)[0].shape[1:]))
            return name, activated, size // self._count
        is_unitwise = isinstance(layer, _UNITWISE) or hasattr(layer, "surrogate")
        if not is_unitwise or layer.trainable_variables:
            kind = type(layer).__name__
            raise NotSeparableError(f"{name} ({kind}) reads its outputs, which is not supported")
        if places == 1:
            _check_channels_last(name, layer)
        if _activates(layer) and not activated:
            self.activated.append(name)
            return name, True, places
        return name, activated, places

    def _read_by(self, layer: keras.layers.Layer, places: int) -> Outgoing:
        _check_plain(layer)
        axis = len(layer.kernel.shape) - 2
        # Channels are the last axis of what is flattened: place p of unit u is p * units + u.
        units = np.arange(self._count)[:, np.newaxis]
        found = units + self._count * np.arange(places)[np.newaxis, :]
        if found.size != layer.kernel.shape[axis]:
            raise NotSeparableError(f"the kernel of {layer.name} has another number of inputs")
        return Outgoing(layer.kernel, axis, found)


def _is_called_with_input(flow: Flow, name: str) -> bool:
    """True if a layer is called more often than with the outputs of known layers."""
    made = {id(tensor) for other in flow.reads[name] for tensor in flow.outputs(other)}
    return any(id(tensor) not in made for tensor in flow.inputs(name))


def _check_plain(layer: keras.layers.Layer) -> None:
    """Check that a layer computes with its kernel, with the units on the last axis."""
    if not layer.kernel.trainable:
        raise NotSeparableError(f"{layer.name} is frozen (trainable=False)")
    if type(layer) not in _WITH_KERNEL:
        raise NotSeparableError(f"{layer.name} is a {type(layer).__name__}, not a Keras layer")
    if getattr(layer, "groups", 1) != 1:
        raise NotSeparableError(f"{layer.name} has groups")
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise NotSeparableError(f"the kernel of {layer.name} is quantized or has LoRA")
    _check_channels_last(layer.name, layer)


def _check_channels_last(name: str, layer: keras.layers.Layer) -> None:
    if getattr(layer, "data_format", None) == "channels_first":
        raise NotSeparableError(f"{name} has channels_first")


def _check_last_axis(name: str, layer: keras.layers.BatchNormalization) -> None:
    last = len(layer.input.shape) - 1 if hasattr(layer, "input") else None
    if layer.axis not in (-1, last):
        raise NotSeparableError(f"{name} normalises axis {layer.axis}, which is not the last one")


def _normalisation(layer: keras.layers.BatchNormalization) -> list[Incoming]:
    found = [
        Incoming(layer.moving_mean, layer.moving_mean_initializer),
        Incoming(layer.moving_variance, layer.moving_variance_initializer),
    ]
    if layer.scale:
        found.append(Incoming(layer.gamma, layer.gamma_initializer))
    if layer.center:
        found.append(Incoming(layer.beta, layer.beta_initializer))
    return found


def _activates(layer: keras.layers.Layer) -> bool:
    """True for a layer that ends with an elementwise activation other than the identity."""
    activation = activation_of(layer)
    return activation is not None and activation.forward.title != "linear"


def assign(
    variable: keras.Variable, axis: int, places: np.ndarray, value: np.ndarray | float
) -> None:
    """Assign to some places along an axis."""
    array = np.array(variable)
    index: list[object] = [slice(None)] * array.ndim
    index[axis] = places
    array[tuple(index)] = value
    variable.assign(array)

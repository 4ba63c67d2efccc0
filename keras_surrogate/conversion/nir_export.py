"""`to_nir`: a spiking Keras model as a NIR graph."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_surrogate import files, functions
from keras_surrogate.conversion import choosing
from keras_surrogate.conversion.nir_axes import Axes
from keras_surrogate.conversion.nir_neurons import Unfit, nir_package, node_of, warn_of_resets
from keras_surrogate.layers import encoders, readouts
from keras_surrogate.layers.neuron_layer import NeuronLayer
from keras_surrogate.layers.over_time import OverTime, is_over_time
from keras_surrogate.layers.spiking_cell import SpikingCell

if TYPE_CHECKING:
    import nir

    from keras_surrogate._types import PathLike
    from keras_surrogate.layers.neurons import Neuron

_ENCODERS = (encoders.Encoder, encoders.DeltaEncoder)
# Layers that do nothing in inference.
_IDENTITIES = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
)


def to_nir(model: keras.Model, dt: float = 1e-4, path: PathLike | None = None) -> nir.NIRGraph:
    """A spiking model as a graph of NIR, the format that neuromorphic tools exchange.

        graph = conversion.to_nir(model)
        nir.write("model.nir", graph)

    A step of the model is a step of forward Euler of length dt:

        leak = 1 - dt / tau        R = tau / dt (LIF, LI, CubaLIF), 1 / dt (IF, I)

    | Keras | NIR |
    |---|---|
    | Dense | Affine, Linear without bias |
    | Conv1D, Conv2D, with ZeroPadding1D, ZeroPadding2D before | Conv1d, Conv2d |
    | AveragePooling2D, and times the size of the pool by Rescaling | AvgPool2d, SumPool2d |
    | Rescaling | Scale |
    | Flatten | Flatten |
    | layers.IF, LIF, SynapticLIF, LI | IF, LIF, CubaLIF, LI; a leak of 1: IF, I |
    | keras.layers.RNN of a layers.SpikingCell | a graph of the neuron and a Linear |

    All but Dense, Rescaling and neurons are wrapped in `layers.OverTime`. Dropout is left out.
    Encoders at the start and readouts at the end are left out with a warning: the graph is between
    them. `ConstantCurrent` is left out wherever it is, because the input of the graph stays the
    same in all steps then.

    NIR has the channels first. So images (height, width, channels) become (channels, height,
    width), signals (length, channels) of a model with Conv1D become (channels, length), kernels are
    transposed, and the weights after a Flatten are put into the order of NIR's Flatten. The inputs
    of other programs must have their channels first, too. Images (height, width) without channels
    stay as they are.

    NIR's neurons fire where v > v_threshold. Ours fire at the threshold, too, so the written
    threshold is the next lower float32 number. NIR resets v to 0. Another reset is written into the
    metadata of the node with a warning; `from_nir` reads it, and other programs do not.

    Args:
        model: a Sequential or functional Keras model, a chain of such layers.
        dt: the length of a step in seconds, in (0, inf), default 1e-4, that of snnTorch.
        path: a file to write the graph to, completely or not at all; default None, no file.

    Returns:
        A `nir.NIRGraph`, with dt in its metadata.

    Raises:
        ImportError: the package `nir` is not installed.
        ValueError: the model is no chain, has layers without a NIR node (all are listed) or axes of
            unknown length; `dt` is out of range; `path` cannot be written.

    Source: Pedersen et al. 2024, arXiv:2311.14641.
    """
    nir = nir_package()
    choosing.check_model("to_nir", model)
    dt = functions.real_number(dt, "to_nir", "dt", "a positive number", lambda number: number > 0)
    if path is not None:
        files.check_writable(path)
    layers = _without_ends(_chain(model))
    kinds = keras.layers.Conv1D | keras.layers.ZeroPadding1D
    axes = Axes(any(isinstance(getattr(one, "layer", one), kinds) for one in layers))
    chain = _Chain(dt, axes)
    problems = []
    of_time = not any(isinstance(layer, encoders.ConstantCurrent) for layer in layers)
    for layer in layers:
        if isinstance(layer, encoders.ConstantCurrent):
            of_time = True
            continue
        try:
            chain.add(layer, of_time)
        except Unfit as reason:
            within = getattr(layer, "layer", layer)
            problems.append(f"{layer.name} ({type(within).__name__}: {reason})")
    problems = problems or chain.unfinished()
    if problems:
        raise ValueError(
            f"to_nir: NIR has no node for {', '.join(problems)}. Replace or remove these layers."
        )
    warn_of_resets(chain.neurons)
    graph = nir.NIRGraph(*chain.with_ends(), metadata={"dt": dt})
    if path is not None:
        with files.replacing_file(path) as unfinished:
            nir.write(unfinished, graph)
    return graph


# ------------------------------------------------------------------------------ the chain of layers


def _chain(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model, each of which takes the output of the one before."""
    ends = [*getattr(model, "inputs", ()), *getattr(model, "outputs", ())]
    if len(ends) != 2:
        raise ValueError(
            f"to_nir: {model.name} must be a Sequential or functional model that is built, with "
            "one input and one output. Give it an Input."
        )
    tensor, output = ends
    layers = [one for one in model.layers if not isinstance(one, keras.layers.InputLayer)]
    for layer in layers:
        try:
            fits = layer.input is tensor
        except (AttributeError, ValueError):
            # A layer with several inputs or several calls.
            fits = False
        if not fits:
            raise ValueError(
                f"to_nir: {model.name} must be a chain of layers, but {layer.name} has another "
                "input than the output of the layer before, or is called more than once."
            )
        tensor = layer.output
    if output is not tensor:
        raise ValueError(f"to_nir: the output of {model.name} must be that of its last layer.")
    return layers


def _without_ends(layers: list[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """The layers between encoder and readout, with a warning about these."""
    left_out = []
    if layers and isinstance(layers[0], _ENCODERS):
        left_out.append(layers[0])
        layers = layers[1:]
    if layers and isinstance(layers[-1], readouts.Readout):
        left_out.append(layers[-1])
        layers = layers[:-1]
    told = [one.name for one in left_out if not isinstance(one, encoders.ConstantCurrent)]
    if told:
        warnings.warn(
            "to_nir: NIR has no encoders and readouts, so the graph is without "
            f"{' and '.join(told)}: its input and output are those of the layers between, over "
            "time.",
            UserWarning,
            stacklevel=3,
        )
    return layers


class _Chain:
    """The nodes of a graph, one after another.

    Args:
        dt: the length of a step.
        axes: the orders of a step's axes.

    Attributes:
        neurons: the neurons by the names of their layers.
    """

    def __init__(self, dt: float, axes: Axes) -> None:
        self._nir = nir_package()
        self._dt = dt
        self._axes = axes
        self._nodes: dict[str, nir.NIRNode] = {}
        self.neurons: dict[str, Neuron] = {}
        # Shapes of a step in Keras's order.
        self._input_shape: tuple[int, ...] | None = None
        self._output_shape: tuple[int, ...] = ()
        # After a Flatten, the place in Keras's order of each place in NIR's.
        self._order: np.ndarray | None = None
        self._flatten: keras.layers.Layer | None = None
        # Zeros before and after each axis that the next layer is to add.
        self._padding: np.ndarray | None = None
        self._padding_layer: keras.layers.Layer | None = None
        self._shape_before_padding: tuple[int, ...] = ()

    def add(self, layer: keras.layers.Layer, of_time: bool) -> None:
        """Add the node of a layer.

        Args:
            layer: the layer.
            of_time: True if its input has an axis of time.

        Raises:
            Unfit: there is none.
        """
        if not isinstance(layer.output, keras.KerasTensor):
            raise Unfit("a node has one output: use return_potential=False")
        axes = 2 if of_time else 1
        shape_in = tuple(layer.input.shape[axes:])
        shape_out = tuple(layer.output.shape[axes:])
        if None in shape_in or None in shape_out:
            raise Unfit("the lengths of all axes but batch and time must be known")
        if self._input_shape is None:
            self._input_shape = shape_in
        self._output_shape = shape_out
        inner = _in_each_step(layer, of_time)
        make = _maker(inner)
        if make is None:
            return
        if self._padding is not None:
            if make not in _PADDED:
                raise Unfit(
                    f"{self._padding_layer.name} pads its input, and only a convolution or "
                    "pooling may have a padded input"
                )
            shape_in = self._shape_before_padding
        node = make(self, inner, shape_in, shape_out)
        if node is None:
            return
        self._padding = None
        self._check_shapes(node, shape_in, shape_out)
        self._nodes[self._free(layer.name)] = node

    def _free(self, name: str) -> str:
        while name in (*self._nodes, "input", "output"):
            name += "_"
        return name

    def _check_shapes(self, node: nir.NIRNode, shape_in: tuple, shape_out: tuple) -> None:
        for types, shape in ((node.input_type, shape_in), (node.output_type, shape_out)):
            (known,) = types.values()
            wanted = self._axes.to_nir(shape)
            if known is not None and tuple(known) != wanted:
                raise Unfit(
                    f"nir {self._nir.version} takes the shape {wanted} for "
                    f"{tuple(map(int, known))}: it takes kernels for square, and ignores groups"
                )

    def unfinished(self) -> list[str]:
        """What still waits for a layer at the end."""
        problems = []
        if self._order is not None:
            problems.append(
                f"{self._flatten.name} (Flatten: a Dense must follow, to take its order)"
            )
        if self._padding is not None:
            problems.append(f"{self._padding_layer.name} (a convolution or pooling must follow)")
        if not self._nodes and not problems:
            problems.append("a model without such layers")
        return problems

    def with_ends(self) -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
        """The nodes with input and output, and the edges."""
        nodes = {
            "input": self._nir.Input(np.array(self._axes.to_nir(self._input_shape))),
            **self._nodes,
            "output": self._nir.Output(np.array(self._axes.to_nir(self._output_shape))),
        }
        names = list(nodes)
        return nodes, list(itertools.pairwise(names))

    # -------------------------------------------------------------- one method a kind of layer

    def dense(self, layer: keras.layers.Dense, shape_in: tuple, _: tuple) -> nir.NIRNode:
        _check_linear(layer)
        if len(shape_in) != 1:
            raise Unfit("its input must be flat: put a Flatten before")
        weight = layer.kernel.numpy().T
        if self._order is not None:
            weight = weight[:, self._order]
            self._order = None
        if not layer.use_bias:
            return self._nir.Linear(weight=weight)
        return self._nir.Affine(weight=weight, bias=layer.bias.numpy())

    def convolution(self, layer: Any, shape_in: tuple, shape_out: tuple) -> nir.NIRNode:
        _check_linear(layer)
        _check_channels_last(layer)
        if layer.padding == "causal":
            raise Unfit('padding "causal"')
        kernel = layer.kernel.numpy()
        bias = np.zeros(kernel.shape[-1], "float32")
        if layer.use_bias:
            bias = layer.bias.numpy()
        axes = kernel.ndim - 2
        settings = {"stride": layer.strides, "dilation": layer.dilation_rate}
        if layer.padding == "same" and set(layer.strides) == {1} and self._padding is None:
            padding = "same"
        else:
            # NIR has no "same" with strides.
            reach = np.array(layer.dilation_rate) * (np.array(layer.kernel_size) - 1) + 1
            settings["padding"] = self._padding_of(layer, shape_in, shape_out, reach)
            padding = None
        settings = {name: tuple(map(int, setting)) for name, setting in settings.items()}
        size = shape_in[:-1]
        make = self._nir.Conv2d
        if axes == 1:
            make = self._nir.Conv1d
            settings = {name: number for name, (number,) in settings.items()}
            (size,) = size
        if padding is not None:
            settings["padding"] = padding
        return make(
            input_shape=size,
            # From (size..., in, out) to (out, in, size...).
            weight=np.moveaxis(kernel, (-1, -2), (0, 1)),
            groups=layer.groups,
            bias=bias,
            **settings,
        )

    def average_pooling(self, layer: Any, shape_in: tuple, shape_out: tuple) -> nir.NIRNode:
        _check_channels_last(layer)
        size = np.array(layer.pool_size)
        padding = self._padding_of(layer, shape_in, shape_out, size)
        if layer.padding == "same" and np.any(padding):
            raise Unfit('padding "same": the zeros do not count in Keras, and do in NIR')
        return self._nir.AvgPool2d(
            kernel_size=size, stride=np.array(layer.strides), padding=padding
        )

    def _padding_of(
        self, layer: Any, shape_in: tuple, shape_out: tuple, reach: np.ndarray
    ) -> np.ndarray:
        """The number of zeros on either side of each axis."""
        sides = np.zeros((len(reach), 2), int)
        if self._padding is not None:
            sides = self._padding
        if layer.padding == "same":
            # As TensorFlow: the last window ends at the last number or beyond.
            end = (np.array(shape_out[:-1]) - 1) * np.array(layer.strides) + reach
            total = np.maximum(end - shape_in[:-1] - sides.sum(axis=1), 0)
            before = total // 2
            sides = sides + np.stack([before, total - before], axis=1)
        if np.any(sides[:, 0] != sides[:, 1]):
            raise Unfit("it adds more zeros on one side than on the other")
        return sides[:, 0]

    def zero_padding(self, layer: Any, shape_in: tuple, _: tuple) -> None:
        _check_channels_last(layer)
        sides = np.array(layer.padding).reshape(-1, 2)
        if self._padding is None:
            self._padding = sides
            self._shape_before_padding = shape_in
        else:
            self._padding = self._padding + sides
        self._padding_layer = layer

    def rescaling(self, layer: Any, shape_in: tuple, _: tuple) -> nir.NIRNode | None:
        if np.any(layer.offset):
            raise Unfit("an offset other than 0")
        scale = np.broadcast_to(np.asarray(layer.scale, "float32"), shape_in)
        last = next(reversed(self._nodes.values()), None)
        if isinstance(last, self._nir.AvgPool2d) and np.all(scale == np.prod(last.kernel_size)):
            name = next(reversed(self._nodes))
            self._nodes[name] = self._nir.SumPool2d(last.kernel_size, last.stride, last.padding)
            return None
        return self._nir.Scale(scale=self._arranged(scale))

    def flatten(self, layer: Any, shape_in: tuple, shape_out: tuple) -> nir.NIRNode | None:
        if len(shape_in) == 1:
            return None
        _check_channels_last(layer)
        places = np.arange(np.prod(shape_in)).reshape(shape_in)
        order = self._axes.array_to_nir(places).ravel()
        if not np.array_equal(order, np.arange(len(order))):
            self._order = order
            self._flatten = layer
        return self._nir.Flatten(np.array(self._axes.to_nir(shape_in)), start_dim=0, end_dim=-1)

    def neuron_layer(self, layer: NeuronLayer, shape_in: tuple, _: tuple) -> nir.NIRNode:
        if layer.go_backwards:
            raise Unfit("go_backwards=True")
        self.neurons[layer.name] = layer.neuron
        return node_of(layer.neuron, self._numbers(layer, shape_in), self._dt)

    def recurrent(self, layer: keras.layers.RNN, shape_in: tuple, _: tuple) -> nir.NIRNode:
        cell = layer.cell
        if not isinstance(cell, SpikingCell):
            raise Unfit("its cell must be a layers.SpikingCell")
        if not layer.return_sequences or layer.return_state or layer.go_backwards:
            raise Unfit("it must have return_sequences=True and no other option of that kind")
        self.neurons[layer.name] = cell.neuron
        node = node_of(cell.neuron, self._numbers(cell, shape_in), self._dt)
        kernel = cell.recurrent_kernel.numpy()
        if self._order is not None:
            kernel = kernel[self._order][:, self._order]
        units = np.array(shape_in)
        return self._nir.NIRGraph(
            nodes={
                "input": self._nir.Input(units),
                "neuron": node,
                "recurrent": self._nir.Linear(weight=kernel.T),
                "output": self._nir.Output(units),
            },
            edges=[
                ("input", "neuron"),
                ("neuron", "recurrent"),
                ("recurrent", "neuron"),
                ("neuron", "output"),
            ],
        )

    def _numbers(self, layer: NeuronLayer | SpikingCell, shape: tuple) -> dict[str, np.ndarray]:
        """The parameters of a neuron for each unit, in NIR's order."""
        values = layer.parameters()
        return {
            name: self._arranged(np.broadcast_to(np.asarray(values[name], "float64"), shape))
            for name in layer.neuron.ranges()
        }

    def _arranged(self, array: np.ndarray) -> np.ndarray:
        """Numbers of the units, from Keras's order to NIR's."""
        if self._order is not None:
            return array[self._order]
        # A copy, because broadcast arrays share memory.
        return np.array(self._axes.array_to_nir(array))


_MAKERS: dict[type, Callable] = {
    keras.layers.Dense: _Chain.dense,
    keras.layers.Conv1D: _Chain.convolution,
    keras.layers.Conv2D: _Chain.convolution,
    keras.layers.AveragePooling2D: _Chain.average_pooling,
    keras.layers.ZeroPadding1D: _Chain.zero_padding,
    keras.layers.ZeroPadding2D: _Chain.zero_padding,
    keras.layers.Rescaling: _Chain.rescaling,
    keras.layers.Flatten: _Chain.flatten,
    keras.layers.RNN: _Chain.recurrent,
}
_PADDED = (_Chain.convolution, _Chain.average_pooling, _Chain.zero_padding)
# Layers that treat each step alike without OverTime.
_OF_ANY_RANK = (
    keras.layers.Dense,
    keras.layers.Rescaling,
    keras.layers.RNN,
    keras.layers.Activation,
    NeuronLayer,
    *_IDENTITIES,
)


def _maker(layer: keras.layers.Layer) -> Callable | None:
    """The method that makes a layer's node; None for layers that change nothing."""
    if isinstance(layer, NeuronLayer):
        return _Chain.neuron_layer
    if isinstance(layer, keras.layers.Activation):
        _check_linear(layer)
        return None
    if isinstance(layer, _IDENTITIES):
        return None
    if type(layer) not in _MAKERS:
        raise Unfit("no such node")
    return _MAKERS[type(layer)]


def _in_each_step(layer: keras.layers.Layer, of_time: bool) -> keras.layers.Layer:
    """The layer that runs in each step: the wrapped one."""
    if not of_time:
        return layer
    if isinstance(layer, OverTime | keras.layers.TimeDistributed):
        if is_over_time(layer.layer):
            raise Unfit(f"it runs over time by itself: use it without {type(layer).__name__}")
        return layer.layer
    if type(layer) in _MAKERS and not isinstance(layer, _OF_ANY_RANK):
        raise Unfit("it takes time for an axis of its own: wrap it in layers.OverTime")
    return layer


def _check_linear(layer: Any) -> None:
    if layer.activation is not keras.activations.linear:
        name = getattr(layer.activation, "__name__", repr(layer.activation))
        raise Unfit(f"its activation {name}")


def _check_channels_last(layer: Any) -> None:
    if getattr(layer, "data_format", None) == "channels_first":
        raise Unfit("channels first")

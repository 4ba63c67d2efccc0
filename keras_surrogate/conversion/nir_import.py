"""`from_nir`: a NIR graph as a spiking Keras model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from keras_surrogate import checks, functions
from keras_surrogate.conversion.nir_axes import Axes
from keras_surrogate.conversion.nir_neurons import Unfit, described, nir_package
from keras_surrogate.layers.neuron_layer import NeuronLayer
from keras_surrogate.layers.neurons import (
    IFNeuron,
    LIFNeuron,
    LINeuron,
    Neuron,
    SynapticLIFNeuron,
)
from keras_surrogate.layers.over_time import OverTime
from keras_surrogate.layers.spiking import IF, LI, LIF, SynapticLIF
from keras_surrogate.layers.spiking_cell import SpikingCell

if TYPE_CHECKING:
    import nir

    from keras_surrogate._types import PathLike, SurrogateLike
    from keras_surrogate.layers.learned import Learn

# That of snnTorch, where the graph does not say another.
_DT = 1e-4


def from_nir(
    graph: nir.NIRGraph | PathLike,
    dt: float | None = None,
    steps: int | None = None,
    surrogate: SurrogateLike | None = None,
) -> keras.Model:
    """A Keras model of a NIR graph, with layers of spiking neurons that train by `fit`.

        model = conversion.from_nir("model.nir")
        spikes = model(currents)                                 # (batch, time, ...)

    A step of the model is a step of forward Euler of length dt; see `to_nir` for the equations and
    for the nodes. Further nodes: Scale of a single number, I, a graph within the graph, and a
    Linear or Affine from a neuron back to itself, which becomes a `keras.layers.RNN` of a
    `layers.SpikingCell`.

    NIR has the channels first, and Keras has them last. So inputs and outputs of
    (channels, height, width) become (time, height, width, channels), those of (channels, length) in
    a graph with Conv1d become (time, length, channels), kernels are transposed, and the weights
    after a Flatten are put into Keras's order. Two axes without a Conv1d stay as they are.

    Neurons fire where v > v_threshold, and are reset to 0 at once, unless the node's metadata say
    otherwise, as those of `to_nir` do. Parameters that differ between the units become weights that
    training changes ("channel" or "unit" of `layers.LIF`), which rounds them to float32.

    Args:
        graph: a `nir.NIRGraph`, or the path of its file.
        dt: the length of a step in seconds, in (0, inf); default None: what `to_nir` wrote into the
            metadata of the graph, else 1e-4, that of snnTorch. Other programs take other lengths.
            A current of weight 1 raises the potential by R dt / tau, or by R dt without leak.
        steps: the number of time steps of the model's input; default None, any number.
        surrogate: the surrogate of all neurons; default None: that in the metadata, else the
            default of `layers.LIF` with no spike at the threshold itself.

    Returns:
        A functional model for inputs (batch, time, ...), whose layers have the names of the nodes.

    Raises:
        ImportError: the package `nir` is not installed.
        ValueError: the file cannot be read; the graph is no chain (but for the loops of recurrent
            layers), or has nodes without a Keras layer (all are listed), such as a neuron with
            another reset potential than 0 or a time constant below dt.

    Source: Pedersen et al. 2024, arXiv:2311.14641.
    """
    graph = _graph(graph)
    if dt is None:
        dt = float(graph.metadata.get("dt", _DT))
    dt = functions.real_number(dt, "from_nir", "dt", "a positive number", lambda number: number > 0)
    if steps is not None:
        steps = checks.integer(steps, "from_nir: steps")
    shape, links = _chain(graph)
    problems = [
        f"{link.name} ({type(link.node).__name__}: no such layer)"
        for link in links
        if type(link.node).__name__ not in _MAKERS
    ]
    axes = Axes(any(type(link.node).__name__ == "Conv1d" for link in links))
    builder = _Builder(axes, shape, steps, dt, surrogate)
    # A node after one that does not fit may have another shape.
    for link in links if not problems else ():
        try:
            builder.add(link)
        except Unfit as reason:
            problems.append(f"{link.name} ({type(link.node).__name__}: {reason})")
            break
    if problems:
        raise ValueError(f"from_nir: no Keras layer for {', '.join(problems)}.")
    return builder.model()


def _graph(graph: nir.NIRGraph | PathLike) -> nir.NIRGraph:
    nir = nir_package()
    if isinstance(graph, nir.NIRGraph):
        return graph
    if not isinstance(graph, str | Path):
        raise ValueError(f"from_nir needs a nir.NIRGraph or the path of a file, but got {graph!r}.")
    try:
        read = nir.read(graph)
    except (OSError, KeyError, ValueError, AssertionError) as error:
        raise ValueError(f"from_nir: {graph} cannot be read as a NIR file: {error}") from error
    if not isinstance(read, nir.NIRGraph):
        raise ValueError(f"from_nir: {graph} holds a {type(read).__name__} and no graph.")
    return read


# ------------------------------------------------------------------------------ the chain of nodes


class _Link(NamedTuple):
    """A node of the chain: its name, and the Linear or Affine that leads back to it, or None."""

    name: str
    node: nir.NIRNode
    back: nir.NIRNode | None


def _chain(graph: nir.NIRGraph) -> tuple[tuple[int, ...], list[_Link]]:
    """The shape of a graph's input, and its nodes in the order of the edges."""
    nir = nir_package()
    nodes, edges = _flat(graph)
    back = _loops(nodes, edges)
    edges = [edge for edge in edges if not {edge[0], edge[1]} & set(back.values())]
    ends = [[name for name in nodes if isinstance(nodes[name], kind)] for kind in _ends()]
    if [len(names) for names in ends] != [1, 1]:
        raise ValueError(
            f"from_nir: the graph must have one Input and one Output, but has {len(ends[0])} and "
            f"{len(ends[1])}."
        )
    following = {name: [to for start, to in edges if start == name] for name in nodes}
    names = [ends[0][0]]
    while following[names[-1]]:
        (name, *others) = following[names[-1]]
        if others or name in names:
            raise ValueError(
                f"from_nir: the graph must be a chain, but after {names[-1]} it goes on to "
                f"{', '.join([name, *others])}. Only a neuron may have a loop, through one Linear "
                "or Affine."
            )
        names.append(name)
    rest = set(nodes) - set(names) - set(back.values())
    if rest or names[-1] != ends[1][0]:
        raise ValueError(
            f"from_nir: the graph must be a chain from Input to Output, but it ends at {names[-1]}"
            f"{''.join(f', without {name}' for name in sorted(rest))}."
        )
    shape = nodes[names[0]].input_type["input"]
    if shape is None or not len(shape):
        raise ValueError("from_nir: the Input of the graph must have a shape.")
    links = [_Link(name, nodes[name], nodes.get(back.get(name))) for name in names[1:-1]]
    for link in links:
        if link.back is not None and not isinstance(link.node, nir.IF | nir.LIF | nir.CubaLIF):
            raise ValueError(
                f"from_nir: {link.name}, a {type(link.node).__name__}, has a loop. Only a neuron "
                "that fires may have one."
            )
    return tuple(map(int, shape)), _with_biases_before(links)


def _ends() -> tuple[type, type]:
    nir = nir_package()
    return nir.Input, nir.Output


def _flat(
    graph: nir.NIRGraph, prefix: str = ""
) -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """The nodes and edges of a graph, with those of the graphs within it in their places."""
    nir = nir_package()
    nodes = {}
    edges = [(prefix + start, prefix + to) for start, to in dict.fromkeys(graph.edges)]
    for name, node in graph.nodes.items():
        full_name = prefix + name
        if not isinstance(node, nir.NIRGraph):
            nodes[full_name] = node
            continue
        within, inner_edges = _flat(node, f"{full_name}.")
        first, last = (
            [inner for inner, one in within.items() if isinstance(one, kind)] for kind in _ends()
        )
        entries = [to for start, to in inner_edges if start in first]
        exits = [start for start, to in inner_edges if to in last]
        kept = [edge for edge in inner_edges if edge[0] not in first and edge[1] not in last]
        into = [(start, entry) for start, to in edges if to == full_name for entry in entries]
        out = [(leave, to) for start, to in edges if start == full_name for leave in exits]
        edges = [edge for edge in edges if full_name not in edge] + into + out + kept
        nodes.update({key: one for key, one in within.items() if key not in (*first, *last)})
    return nodes, edges


def _loops(nodes: Mapping[str, nir.NIRNode], edges: Iterable[tuple[str, str]]) -> dict[str, str]:
    """From the names of nodes to those of the Linear or Affine that leads back to them."""
    nir = nir_package()
    edges = set(edges)
    return {
        start: through
        for start, through in edges
        if (through, start) in edges
        and isinstance(nodes[through], nir.Linear | nir.Affine)
        # It leads nowhere else.
        and sum(through in edge for edge in edges) == 2
    }


def _with_biases_before(links: list[_Link]) -> list[_Link]:
    """The links with the biases of loops, which add to every step, in the layers before."""
    nir = nir_package()
    changed = []
    for link in links:
        bias = getattr(link.back, "bias", None)
        if bias is None or not np.any(bias):
            changed.append(link)
            continue
        before = changed[-1].node if changed else None
        if not isinstance(before, nir.Linear | nir.Affine):
            raise ValueError(
                f"from_nir: the loop of {link.name} has a bias, and no Linear or Affine before it "
                "can take that."
            )
        total = getattr(before, "bias", 0) + bias
        changed[-1] = changed[-1]._replace(node=nir.Affine(weight=before.weight, bias=total))
        changed.append(link)
    return changed


# ----------------------------------------------------------------------------- the layers of nodes


class _Builder:
    """A functional model that grows by a layer for each node.

    Args:
        axes: the orders of a step's axes.
        shape: the shape of the graph's input, channels first.
        steps: the number of time steps, or None.
        dt: the length of a step.
        surrogate: that of all neurons, or None.
    """

    def __init__(
        self,
        axes: Axes,
        shape: tuple[int, ...],
        steps: int | None,
        dt: float,
        surrogate: SurrogateLike | None,
    ) -> None:
        self._axes = axes
        self._dt = dt
        self._surrogate = surrogate
        self._input = keras.Input((steps, *axes.to_keras(shape)))
        self._tensor = self._input
        # After a Flatten, the place in NIR's order of each place in Keras's.
        self._order: np.ndarray | None = None
        self._used: set[str] = set()

    def add(self, link: _Link) -> None:
        """Add the layer of a node.

        Raises:
            Unfit: there is none.
        """
        # A recurrent layer is the only one of its graph.
        name = link.name.removesuffix(".neuron").replace("/", "_").replace(".", "_")
        while name in self._used:
            name += "_"
        self._used.add(name)
        try:
            _MAKERS[type(link.node).__name__](self, link, name)
        except (ValueError, IndexError) as error:
            # Shapes that do not fit each other, as Keras says it.
            raise Unfit(str(error)) from error

    def model(self) -> keras.Model:
        if self._order is not None:
            raise ValueError(
                "from_nir: no Keras layer for a Flatten of channels that no Linear or Affine "
                "follows, because its order is another one."
            )
        return keras.Model(self._input, self._tensor)

    @property
    def _shape(self) -> tuple[int, ...]:
        """The shape of a step."""
        return tuple(self._tensor.shape[2:])

    def _apply(self, layer: keras.layers.Layer, weights: Iterable[np.ndarray] = ()) -> None:
        self._tensor = layer(self._tensor)
        weights = list(weights)
        if weights:
            layer.set_weights(weights)

    def linear(self, link: _Link, name: str) -> None:
        kernel = _float32(link.node.weight).T
        if kernel.ndim != 2:
            raise Unfit("weights of more than two axes")
        if len(self._shape) != 1:
            raise Unfit("its input is not flat")
        if self._order is not None:
            kernel = kernel[self._order]
            self._order = None
        bias = getattr(link.node, "bias", None)
        weights = [kernel] if bias is None else [kernel, _float32(bias)]
        layer = keras.layers.Dense(kernel.shape[1], use_bias=bias is not None, name=name)
        self._apply(layer, weights)

    def convolution(self, link: _Link, name: str) -> None:
        node = link.node
        # From (out, in, size...) to (size..., in, out).
        kernel = np.moveaxis(_float32(node.weight), (0, 1), (-1, -2))
        size = kernel.shape[:-2]
        make = keras.layers.Conv2D if len(size) == 2 else keras.layers.Conv1D
        padding = node.padding
        if not isinstance(padding, str):
            self._pad(_per_axis(padding, len(size)), name)
            padding = "valid"
        layer = make(
            kernel.shape[-1],
            size,
            strides=_per_axis(node.stride, len(size)),
            padding=padding,
            dilation_rate=_per_axis(node.dilation, len(size)),
            groups=int(node.groups),
        )
        self._apply(OverTime(layer, name=name), [kernel, _float32(node.bias)])

    def average_pooling(self, link: _Link, name: str) -> None:
        node = link.node
        # The zeros count in the mean, as in PyTorch.
        self._pad(_per_axis(node.padding, 2), name)
        layer = keras.layers.AveragePooling2D(
            _per_axis(node.kernel_size, 2), strides=_per_axis(node.stride, 2)
        )
        self._apply(OverTime(layer, name=name))

    def sum_pooling(self, link: _Link, name: str) -> None:
        self.average_pooling(link, f"{name}_mean")
        size = math.prod(_per_axis(link.node.kernel_size, 2))
        self._apply(keras.layers.Rescaling(float(size), name=name))

    def _pad(self, padding: tuple[int, ...], name: str) -> None:
        if not any(padding):
            return
        layer = keras.layers.ZeroPadding1D(padding[0])
        if len(padding) == 2:
            layer = keras.layers.ZeroPadding2D(padding)
        self._apply(OverTime(layer, name=f"{name}_padding"))

    def scale(self, link: _Link, name: str) -> None:
        scale = np.asarray(link.node.scale, "float64")
        if not np.all(scale == scale.flat[0]):
            raise Unfit("more than one factor")
        self._apply(keras.layers.Rescaling(float(scale.flat[0]), name=name))

    def flatten(self, link: _Link, name: str) -> None:
        shape = self._shape
        if len(shape) == 1:
            return
        if link.node.output_type["output"] is not None and len(link.node.output_type["output"]) > 1:
            raise Unfit("it must flatten all axes")
        places = np.arange(math.prod(shape)).reshape(self._axes.to_nir(shape))
        order = self._axes.array_to_keras(places).ravel()
        if not np.array_equal(order, np.arange(len(order))):
            self._order = order
        self._apply(OverTime(keras.layers.Flatten(), name=name))

    def neuron(self, link: _Link, name: str) -> None:
        found = described(link.node, self._dt, self._surrogate)
        if found.gain != 1:
            layer = keras.layers.Rescaling(found.gain, name=f"{name}_resistance")
            self._apply(layer)
        shape = self._axes.to_nir(self._shape)
        numbers = {
            key: self._arranged(np.broadcast_to(value, shape))
            for key, value in found.numbers.items()
        }
        learn = {key: _sharing(value) for key, value in numbers.items()}
        for key, sharing in learn.items():
            if sharing:
                _check_inside(found.neuron, key, numbers[key])
        fixed = {key: float(value.flat[0]) for key, value in numbers.items()}
        if link.back is None:
            flags = {f"learn_{key}": sharing for key, sharing in learn.items()}
            owner = _LAYERS[found.neuron](**found.options, **fixed, **flags, name=name)
            self._apply(owner)
        else:
            owner = SpikingCell(shape[0], found.neuron(**found.options, **fixed), learn)
            self._apply(keras.layers.RNN(owner, return_sequences=True, name=name))
            owner.recurrent_kernel.assign(self._recurrent_kernel(link.back, shape))
        for key, sharing in learn.items():
            if sharing:
                _assign(owner, key, numbers[key], sharing)

    def _recurrent_kernel(self, back: nir.NIRNode, shape: tuple[int, ...]) -> np.ndarray:
        kernel = _float32(back.weight).T
        if len(shape) != 1 or kernel.shape != shape * 2:
            raise Unfit(f"its loop has weights of shape {kernel.shape} for units of shape {shape}")
        if self._order is not None:
            kernel = kernel[self._order][:, self._order]
        return kernel

    def _arranged(self, array: np.ndarray) -> np.ndarray:
        """Numbers of the units, from NIR's order to Keras's."""
        if self._order is not None:
            return array[self._order]
        return self._axes.array_to_keras(array)


_LAYERS: dict[type[Neuron], type[NeuronLayer]] = {
    IFNeuron: IF,
    LIFNeuron: LIF,
    SynapticLIFNeuron: SynapticLIF,
    LINeuron: LI,
}
_MAKERS: dict[str, Callable[[_Builder, _Link, str], None]] = {
    "Affine": _Builder.linear,
    "Linear": _Builder.linear,
    "Conv1d": _Builder.convolution,
    "Conv2d": _Builder.convolution,
    "AvgPool2d": _Builder.average_pooling,
    "SumPool2d": _Builder.sum_pooling,
    "Scale": _Builder.scale,
    "Flatten": _Builder.flatten,
    "IF": _Builder.neuron,
    "LIF": _Builder.neuron,
    "CubaLIF": _Builder.neuron,
    "LI": _Builder.neuron,
    "I": _Builder.neuron,
}


def _sharing(values: np.ndarray) -> Learn:
    """The kind of learned parameter that can hold the values of all units."""
    if np.all(values == values.flat[0]):
        return False
    channels = values.reshape(-1, values.shape[-1])
    if len(channels) > 1 and np.all(channels == channels[0]):
        return "channel"
    return "unit"


def _check_inside(neuron: type[Neuron], parameter: str, values: np.ndarray) -> None:
    """Refuse numbers that the weight of a learned parameter cannot stand for."""
    valid = neuron.ranges()[parameter]
    for number in np.unique(values):
        if not valid.inside(float(number)):
            raise Unfit(
                f"its units have different {parameter}s, which become weights, and these cannot "
                f"hold {number:.4g}. Only a layer of equal units can have that, if it is "
                f"{valid.meaning}"
            )


def _assign(
    owner: NeuronLayer | SpikingCell, parameter: str, values: np.ndarray, sharing: Learn
) -> None:
    """Set the weight of a learned parameter to what gives these values."""
    if sharing == "channel":
        values = values.reshape(-1, values.shape[-1])[0]
    weight_of = np.vectorize(owner.neuron.ranges()[parameter].weight)
    (weight,) = (one for one in owner.weights if one.name == f"raw_{parameter}")
    weight.assign(weight_of(values))


def _float32(array: Any) -> np.ndarray:
    # A PyTorch tensor has a dtype of another kind.
    return np.asarray(array).astype("float32")


def _per_axis(setting: Any, axes: int) -> tuple[int, ...]:
    """An int for each axis, from one number or several."""
    return tuple(map(int, np.broadcast_to(np.asarray(setting), axes)))

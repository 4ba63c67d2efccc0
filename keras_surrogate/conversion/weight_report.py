"""`weight_report`: bits, memory and multiply-adds of a model whose weights have few levels."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from keras_surrogate.conversion import choosing, layer_tree, rebuilding
from keras_surrogate.conversion.range_places import as_functional
from keras_surrogate.layers import SurrogateWeights
from keras_surrogate.layers.weights import name_within, replacing
from keras_surrogate.layers.within import everything_within
from keras_surrogate.reprs import Shown


@dataclasses.dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer.

    Attributes:
        path: its place in the model.
        counts: from the number of bits of a weight to the number of such weights.
        scales: the number of factors that the scale of `SurrogateWeights` needs, of 32 bits each.
        multiply_adds: from the number of bits of a weight to the multiply-adds with such weights
            for one example; None if they are not known for this kind of layer or input.
    """

    path: str
    counts: dict[int, int]
    scales: int
    multiply_adds: dict[int, int] | None

    @property
    def weights(self) -> int:
        """The number of weights."""
        return sum(self.counts.values())

    @property
    def memory(self) -> float:
        """The bytes of the weights and scales, with the bits of all weights packed."""
        return sum(bits * count for bits, count in self.counts.items()) / 8 + 4 * self.scales


@dataclasses.dataclass(frozen=True, repr=False)
class WeightReport(Shown):
    """Bits, memory and multiply-adds of each layer and of the whole model. `print` shows a table.

    Attributes:
        layers: a `LayerWeights` for each layer with weights, in the order of the model.
    """

    layers: tuple[LayerWeights, ...]

    _more = "print(report), report.layers"

    @property
    def weights(self) -> int:
        """The number of all weights."""
        return sum(layer.weights for layer in self.layers)

    @property
    def memory(self) -> float:
        """The bytes of all weights and scales."""
        return sum(layer.memory for layer in self.layers)

    @property
    def bits_per_weight(self) -> float:
        """The mean number of bits of a weight, with the scales."""
        return 8 * self.memory / self.weights if self.weights else 0.0

    @property
    def multiply_adds(self) -> dict[int, int]:
        """From the number of bits of a weight to the multiply-adds with such weights."""
        totals: collections.Counter[int] = collections.Counter()
        for layer in self.layers:
            totals.update(layer.multiply_adds or {})
        return dict(sorted(totals.items()))

    def _facts(self) -> dict[str, object]:
        shares = [f"{count:,} of {bits} bit" for bits, count in self.multiply_adds.items()]
        return {
            "weights": self.weights,
            "bits per weight": self.bits_per_weight,
            "memory": _bytes(self.memory),
            "memory in float32": _bytes(4.0 * self.weights),
            "multiply-adds": shares,
        }

    def _table(self) -> tuple[list[str], list[list[str]]]:
        headings = ["layer", "weights", "bits", "memory", "in float32", "multiply-adds"]
        return headings, [_cells(layer) for layer in self.layers]

    def __str__(self) -> str:
        headings, rows = self._table()
        total = LayerWeights("all", {}, 0, self.multiply_adds)
        last = _cells(total)
        last[1:5] = [
            f"{self.weights:,}",
            f"{self.bits_per_weight:.3g}",
            _bytes(self.memory),
            _bytes(4.0 * self.weights),
        ]
        lines = [headings, *rows, last]
        widths = [max(len(line[place]) for line in lines) for place in range(len(headings))]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in lines
        )


def weight_report(model: keras.Model) -> WeightReport:
    """Bits, memory and multiply-adds of a model with weights of few levels.

        print(conversion.weight_report(model))

    A weight that `SurrogateWeights` replaces by one of n levels has ceil(log2(n)) bits, every other
    weight the bits of its dtype. Multiply-adds are those of kernels, for one example, and are
    counted by the bits of the weight, whatever the input has. They are known for Dense, EinsumDense
    and all convolutions of known input shapes, and for recurrent layers, with all calls of a shared
    layer; but not for layers that another Keras layer holds, such as those of MultiHeadAttention,
    TimeDistributed and Bidirectional.

    Args:
        model: a built Keras model.

    Raises:
        ValueError: `model` is not a built Keras model.
    """
    choosing.check_model("weight_report", model)
    if not model.built:
        raise ValueError(
            f"weight_report: {model.name} is not built. Give it an Input, or call it on data first."
        )
    rows = []
    calls = _Calls(model)
    seen: set[int] = set()
    # Inner layers first, so that each weight is counted where it is held.
    for place in reversed(list(layer_tree.walk(model))):
        own = [one for one in place.layer.weights if id(one) not in seen]
        seen.update(map(id, own))
        if isinstance(place.layer, SurrogateWeights):
            # Learned steps are the scales of the layer within.
            continue
        own = [one for one in own if tf.as_dtype(one.dtype).is_floating]
        if own:
            rows.append(_row(place, own, calls))
    return WeightReport(tuple(reversed(rows)))


def _row(place: layer_tree.Place, weights: list[keras.Variable], calls: _Calls) -> LayerWeights:
    counts: collections.Counter[int] = collections.Counter()
    operations: collections.Counter[int] = collections.Counter()
    is_known = True
    for weight in weights:
        size = math.prod(weight.shape)
        counts[_bits(weight)] += size
        if weight.name.endswith("kernel"):
            positions = calls.positions(place.layer, weight)
            is_known = is_known and positions is not None
            operations[_bits(weight)] += size * (positions or 0)
    return LayerWeights(
        place.path,
        dict(sorted(counts.items())),
        sum(_scales(weight) for weight in weights),
        dict(sorted(operations.items())) if is_known else None,
    )


def _bits(weight: keras.Variable) -> int:
    layer = replacing(weight)
    if layer is None or layer.levels is None:
        return 8 * tf.as_dtype(weight.dtype).size
    return max(1, math.ceil(math.log2(len(layer.levels))))


def _scales(weight: keras.Variable) -> int:
    layer = replacing(weight)
    if layer is None or layer.scale is None:
        return 0
    if layer.scale == "learned":
        return 1
    within = layer.axes_of_a_scale(name_within(layer, weight))
    return math.prod(size for axis, size in enumerate(weight.shape) if axis not in within)


_RECURRENT = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


_Shapes: TypeAlias = tuple[tuple, tuple]


class _Noting(keras.Operation):
    """An operation in place of a layer that notes the shapes of its calls."""

    def __init__(self, layer: Any, found: dict[int, list[_Shapes]]) -> None:
        super().__init__()
        self._layer = layer
        self._found = found

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self._layer(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        outputs = self._layer.compute_output_spec(*args, **kwargs)
        if rebuilding.is_graph(self._layer):
            _note_calls(self._layer, self._found)
        first = keras.tree.flatten((args, kwargs))[0]
        shape = getattr(first, "shape", ())
        shapes = (tuple(shape), tuple(keras.tree.flatten(outputs)[0].shape))
        self._found[id(self._layer)].append(shapes)
        return outputs


def _note_calls(model: keras.Model, found: dict[int, list[_Shapes]]) -> None:
    """Note the shapes of all calls in a graph and in those within it, which do not change."""
    graph = as_functional(model)
    noting = {id(one): _Noting(one, found) for one in graph.operations}
    keras.models.clone_model(graph, clone_function=lambda one: noting[id(one)])


class _Calls:
    """The calls of the layers of a model.

    Args:
        model: a built model. Of one with its own `call` only the first calls are known.
    """

    def __init__(self, model: keras.Model) -> None:
        self._shapes: dict[int, list[_Shapes]] = collections.defaultdict(list)
        # From the id of a layer to the number of its calls by way of a layer that holds it.
        self._repeated: dict[int, int] = {}
        if not rebuilding.is_graph(model):
            return
        _note_calls(model, self._shapes)
        for place in layer_tree.walk(model):
            count = len(self._shapes.get(id(place.layer), ()))
            if count > 1 and not rebuilding.is_graph(place.layer):
                self._repeated.update((id(one), count) for one in everything_within(place.layer))

    def positions(self, layer: keras.layers.Layer, weight: keras.Variable) -> int | None:
        """How often one example uses each element of a kernel; None if that is not known."""
        noted = self._shapes.get(id(layer))
        wrapper = replacing(weight)
        if noted is None and wrapper is not None and wrapper.layer is layer:
            noted = self._shapes.get(id(wrapper))
        if noted is not None:
            found = [_positions(layer, shapes) for shapes in noted]
            return None if None in found else sum(found)
        if id(layer) in self._repeated:
            # The shapes of the calls within a layer may differ.
            return None
        shapes = _shapes(layer)
        if shapes is None and wrapper is not None and wrapper.layer is layer:
            # A layer that was built from a file was never called by itself.
            shapes = _shapes(wrapper)
        return None if shapes is None else _positions(layer, shapes)


def _positions(layer: keras.layers.Layer, shapes: _Shapes) -> int | None:
    """How often one call uses each element of a kernel for one example, or None."""
    inputs, outputs = shapes
    # Before convolutions, because transposed ones are subclasses of none of them.
    if isinstance(layer, _TRANSPOSED):
        sizes = _spatial(layer, inputs)
    elif isinstance(layer, _CONVOLUTIONS):
        sizes = _spatial(layer, outputs)
    elif isinstance(layer, keras.layers.Dense):
        sizes = outputs[1:-1]
    elif isinstance(layer, _RECURRENT):
        sizes = inputs[1:2]
    elif isinstance(layer, keras.layers.EinsumDense):
        sizes = _einsum_sizes(layer.equation, outputs)
    else:
        return None
    return None if None in sizes else math.prod(sizes)


def _shapes(layer: keras.layers.Layer) -> tuple[tuple, tuple] | None:
    """The shapes of a layer's input and output where it was called symbolically, or None."""
    try:
        inputs = layer.input
        outputs = layer.output
    except (AttributeError, ValueError):
        return None
    if not hasattr(inputs, "shape") or not hasattr(outputs, "shape"):
        return None
    return tuple(inputs.shape), tuple(outputs.shape)


def _spatial(layer: keras.layers.Layer, shape: tuple) -> tuple:
    return shape[2:] if layer.data_format == "channels_first" else shape[1:-1]


def _einsum_sizes(equation: str, outputs: tuple) -> tuple:
    """The sizes of the output's dimensions, but those of the batch and of the kernel."""
    _, kernel, letters = equation.replace("->", ",").split(",")
    # An ellipsis stands for the dimensions that the other letters leave.
    spread = len(outputs) - len(letters.replace("...", ""))
    letters = letters.replace("...", "." * spread)
    return tuple(
        size
        for place, (letter, size) in enumerate(zip(letters, outputs, strict=True))
        if place > 0 and letter not in kernel
    )


def _cells(layer: LayerWeights) -> list[str]:
    counted = layer.multiply_adds
    if counted is None:
        operations = "not known"
    else:
        operations = " + ".join(f"{count:,} x {bits} bit" for bits, count in counted.items())
    return [
        layer.path,
        f"{layer.weights:,}",
        " + ".join(f"{count:,} x {bits}" for bits, count in layer.counts.items()),
        _bytes(layer.memory),
        _bytes(4.0 * layer.weights),
        operations,
    ]


def _bytes(count: float) -> str:
    return f"{count / 1024:,.2f} KiB"

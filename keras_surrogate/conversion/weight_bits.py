"""How many bits the weights of each layer get, and the layer that rounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from keras_surrogate import checks, functions
from keras_surrogate.conversion import choosing, layer_tree, rebuilding
from keras_surrogate.layers import SurrogateWeights
from keras_surrogate.layers.within import everything_within
from keras_surrogate.surrogate import Surrogate

MOST_BITS = 8
# Layers whose kernel has one step in LiteRT. Its converter breaks on several steps of a Conv1D.
ONE_STEP = (keras.layers.Conv1D, keras.layers.Dense, keras.layers.DepthwiseConv2D)


def check_bits(bits: int, name: str, least: int) -> None:
    """Raise an error in the name of `quantize` unless bits are from `least` to 8."""
    valid = f"quantize: {name}"
    if checks.integer(bits, valid, least) > MOST_BITS:
        raise ValueError(f"{valid} must be an integer from {least} to {MOST_BITS}, but is {bits}.")


def has_kernel(layer: keras.layers.Layer) -> bool:
    """True for a layer whose weights are quantised."""
    if isinstance(layer, SurrogateWeights) or rebuilding.is_graph(layer):
        return False
    names = [weight.name for weight in layer.weights]
    return any(name.endswith("kernel") or name == "embeddings" for name in names)


def bits_of_layers(
    model: keras.Model,
    bits: int,
    ends: int | str | None,
    layers: Mapping[str, int | None],
) -> dict[int, int]:
    """The bits of each layer with quantised weights, by the layer's id."""
    weighted = [place.layer for place in layer_tree.walk(model) if has_kernel(place.layer)]
    outermost = [layer for layer in weighted if not _is_within(layer, weighted)]
    if not outermost:
        raise ValueError(f"quantize: {model.name} has no layer with a kernel or embeddings.")
    chosen: dict[int, int | None] = {id(layer): bits for layer in outermost}
    if ends != "same":
        for layer in (outermost[0], outermost[-1]):
            chosen[id(layer)] = ends
    for pattern, own in layers.items():
        if own is not None:
            check_bits(own, f"layers[{pattern!r}]", 1)
        for place in choosing.chosen(model, pattern):
            if id(place.layer) in chosen:
                chosen[id(place.layer)] = own
    return {layer: own for layer, own in chosen.items() if own is not None}


def _is_within(layer: keras.layers.Layer, others: Sequence[keras.layers.Layer]) -> bool:
    """True if one of the others holds the layer, as Bidirectional does."""
    return any(layer in everything_within(other) for other in others if other is not layer)


def wrapped(layer: keras.layers.Layer, bits: int, backward: functions.Function) -> SurrogateWeights:
    """The layer with its weights rounded to some bits.

    Args:
        layer: a layer with a kernel or embeddings.
        bits: an integer from 1 to 8.
        backward: the function of the slope.
    """
    # With few steps from 0 to the maximum, most weights would become 0.
    scale = {1: "mean_abs", 2: "least_error", 3: "least_error"}.get(bits, "max_abs")
    per = "tensor" if isinstance(layer, ONE_STEP) else "channel"
    return SurrogateWeights(layer, _surrogate(bits, backward), scale=scale, per=per)


def _surrogate(bits: int, backward: functions.Function) -> Surrogate:
    if bits == 1:
        return Surrogate("sign", backward)
    levels = 2**bits - 1
    # The levels lie on the identity.
    return Surrogate(functions.Staircase(levels, 2 / (levels - 1)), backward)

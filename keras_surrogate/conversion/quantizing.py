"""`quantize`: a float model becomes one that trains with weights and activations of few bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_surrogate import functions
from keras_surrogate.conversion import choosing, rebuilding, reports
from keras_surrogate.conversion.quantized_graph import Conversion
from keras_surrogate.conversion.weight_bits import bits_of_layers, check_bits
from keras_surrogate.layers import FakeQuantize
from keras_surrogate.layers.within import everything_within

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike


def quantize(
    model: keras.Model,
    x: Any = None,
    bits: int = 8,
    activation_bits: int | None = 8,
    layers: Mapping[str, int | None] | None = None,
    ends: int | str | None = "same",
    backward: FunctionLike = "linear",
    fold: bool = True,
) -> keras.Model:
    """A copy of a model that is trained with quantised weights and activations.

        quantized = conversion.quantize(model, x_train[:500], bits=4, ends=8)
        quantized.fit(...)                                      float weights move, few levels count
        conversion.export_litert(quantized, "model.tflite")     integers
        conversion.strip(quantized).save("served.keras")        plain Keras with the rounded weights

    Kernels and embeddings become `SurrogateWeights`. With b bits they have the 2**b - 1 levels from
    -m to m, with one m for each output channel; for Dense, Conv1D and depthwise layers with one for
    the kernel, as LiteRT demands. From 4 bits on, m is max(abs(w)). With 2 and 3 bits it is
    1.534 and 2.447 times mean(abs(w)), with which normal weights are rounded with the least error,
    if that is less. With 1 bit they have the two levels of their sign times mean(abs(w)). Biases
    stay float.

    Activations are rounded by `FakeQuantize` within moving ranges: the floating inputs and outputs
    of the model, and what follows an activation, a sum or a mean, but not after layers that only
    pass values on, such as a pooling by maxima. Numbers of tokens and categories, such as the input
    of an Embedding or a Masking, are not rounded, nor is a softmax or sigmoid at the end of the
    model, so that small probabilities keep their gradient.

    The compilation is that of the model, with a new optimizer. Outputs keep their names, which are
    those of their last layers: where a model has several outputs, or its loss is a dictionary, the
    layer of an output "a" becomes "a_unrounded" and its range "a". `report(quantized)` lists every
    layer.

    Args:
        model: a Sequential or functional Keras model, built.
        x: inputs as for `model(x)`, from which the ranges are set; a batch of some hundred.
            Default None: the first batch of the training sets them.
        bits: the bits of weights, an integer from 1 to 8; default 8.
        activation_bits: those of activations, an integer from 2 to 8, default 8; None leaves
            activations in float.
        layers: other bits, or None for float, for the weights of some layers, by name, path or
            pattern, such as {"conv2d_1": 4, "block3*": 2}; later entries win.
        ends: the bits of weights of the first and the last layer with weights, or None for float;
            default "same": as the others. `layers` wins over it. Of several outputs one layer
            counts as the last: name the others in `layers`.
        backward: the function of the slope of rounded weights; default "linear", straight-through.
        fold: True folds a BatchNormalization into the convolution or Dense layer before it, by
            its moving statistics, so that it is not trained any more; default True. One that
            cannot be folded, or with False, stays in float. The regularizers and constraints of
            the layer before it are left out, because they are for the kernel before the folding.
            The report says which.

    Returns:
        A functional model with the same outputs within the quantisation steps.

    Raises:
        ValueError: the model is subclassed, not built or quantised already, has no weights to
            quantise or has a layer that cannot be copied; bits out of range; an unknown layer or
            function; `x` has no rows or numbers that are not finite.

    Source: Jacob et al. 2018, arXiv:1712.05877; Krishnamoorthi 2018, arXiv:1806.08342, for one
    maximum a channel; XNOR-Net, Rastegari et al. 2016, arXiv:1603.05279, for 1 bit; Max 1960,
    doi:10.1109/TIT.1960.1057548, for 2 and 3 bits.
    """
    _check_model(model)
    check_bits(bits, "bits", 1)
    if activation_bits is not None:
        check_bits(activation_bits, "activation_bits", 2)
    if ends not in ("same", None):
        check_bits(ends, "ends", 1)
    slope = functions.get(backward)
    original = rebuilding.rebuilt(model, {}, {})
    bits_of = bits_of_layers(original, bits, ends, layers or {})

    # With one output, Keras needs no name.
    named_outputs = len(model.outputs) > 1 or isinstance(getattr(model, "loss", None), dict)
    conversion = Conversion(bits_of, activation_bits, slope, fold, named_outputs)
    with rebuilding.as_in(model):
        quantized = conversion.run(original)
        if x is not None:
            _calibrate(quantized, x)
        if model.compiled:
            quantized.compile_from_config(model.get_compile_config())
    reports.keep(quantized, reports.Report(tuple(conversion.changes), tuple(conversion.kept)))
    return quantized


def _check_model(model: keras.Model) -> None:
    choosing.check_model("quantize", model)
    if not rebuilding.is_graph(model):
        raise ValueError(
            f"quantize needs a Sequential or functional model, but {model.name} is a "
            f"{type(model).__name__}, whose own code calls its layers. Wrap its layers in "
            "layers.SurrogateWeights and put layers.FakeQuantize after its activations."
        )
    if any(isinstance(layer, FakeQuantize) for layer in everything_within(model)):
        raise ValueError(
            f"quantize: {model.name} has layers.FakeQuantize already. Quantise the float model, or "
            "train this one."
        )
    if not model.built:
        raise ValueError(
            f"quantize: {model.name} is not built. Give it an Input, or call it on data first."
        )


def _calibrate(model: keras.Model, x: Any) -> None:
    """Set all ranges from one batch, first layer first."""
    for part in keras.tree.flatten(x):
        numbers = np.asarray(part)
        if numbers.ndim and len(numbers) == 0:
            raise ValueError("quantize: x has no rows. Pass some hundred inputs of the training.")
        if np.issubdtype(numbers.dtype, np.floating) and not np.isfinite(numbers).all():
            raise ValueError(
                "quantize: x has numbers that are NaN or infinite, from which no range follows. "
                "Leave these inputs out."
            )
    ranges = [layer for layer in everything_within(model) if isinstance(layer, FakeQuantize)]
    for layer in ranges:
        layer.observing = True
    try:
        model(x, training=False)
    finally:
        for layer in ranges:
            layer.observing = False

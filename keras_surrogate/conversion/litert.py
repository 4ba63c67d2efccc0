"""`export_litert`: a quantised model as an int8 LiteRT file, without representative data."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import activations, files, functions, methods
from keras_surrogate.conversion import choosing, rebuilding, rounding
from keras_surrogate.conversion.weight_bits import ONE_STEP
from keras_surrogate.layers import FakeQuantize, SurrogateWeights

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike

# LiteRT's symmetric int8 weights are from -127 to 127.
_LARGEST = 127

# Layers that LiteRT computes with integers, besides those with weights.
_INTEGER = (
    keras.layers.InputLayer,
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.Concatenate,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Identity,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.Multiply,
    keras.layers.Permute,
    keras.layers.Reshape,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.Subtract,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    FakeQuantize,
)
_INTEGER_WEIGHTS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
)
# The functions of activation layers; softmax, which is no function of one number, is added below.
_INTEGER_FUNCTIONS = (
    functions.Linear,
    functions.Relu,
    functions.Relu6,
    functions.Sigmoid,
    functions.Tanh,
)


def export_litert(model: keras.Model, path: PathLike) -> None:
    """Write an int8 LiteRT (TFLite) file of a model that `quantize` returned.

        from ai_edge_litert.interpreter import Interpreter
        interpreter = Interpreter("model.tflite")

    The ranges and steps are those of the training, so that no representative data is needed. Inputs
    and outputs are float32; all tensors between them are int8, biases int32. Outputs equal those of
    the model within one or two steps of the last range.

    Args:
        model: a model from `conversion.quantize`, with activations of 8 bits and weights of 1 to
            8 bits. Weights of fewer bits are stored as int8, too.
        path: the file, with the suffix .tflite, in an existing folder. It is written completely
            or not at all.

    Raises:
        ValueError: `path` cannot be written; the model is not such a model, has operations that
            LiteRT would compute in float, layers of another dtype than float32, or ranges that saw
            no batch or only zeros. The message lists all of them.
    """
    choosing.check_model("export_litert", model)
    _check_path(path)
    _check_layers(model)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([_inference(model)], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content = converter.convert()
    _check_operations(content)
    with files.replacing_file(path) as unfinished:
        unfinished.write_bytes(content)


def _check_path(path: PathLike) -> None:
    if not str(path).endswith(".tflite"):
        raise ValueError(f"export_litert: {path} must have the suffix .tflite.")
    files.check_writable(path)


def _check_layers(model: keras.Model) -> None:
    layers = list(_called_layers(model))
    ranges = [layer for layer in layers if isinstance(layer, FakeQuantize)]
    if not ranges or any(layer.bits != 8 for layer in ranges):
        raise ValueError(
            f"export_litert: {model.name} does not have activations of 8 bits. Call "
            "conversion.quantize(model, x, activation_bits=8) first, and train its result."
        )
    reasons = {layer.name: _problem(layer) for layer in layers}
    problems = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    if problems:
        raise ValueError(
            "export_litert: there is no integer arithmetic for "
            f"{', '.join(problems)}. Replace these layers, or write a float file: "
            "conversion.export(model, path), then tf.lite.TFLiteConverter.from_saved_model(path)."
        )
    rounding.check_ranges("export_litert", ranges)
    empty = [layer.name for layer in ranges if layer.low.numpy() == layer.high.numpy()]
    if empty:
        raise ValueError(
            f"export_litert: {', '.join(empty)} of {model.name} saw only zeros, so that there is "
            "no step between two integers. Remove the layer before it, or train it until its "
            "outputs are not all 0."
        )


def _check_operations(content: bytes) -> None:
    """Raise a ValueError if a LiteRT model computes something in float between its ends."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        tf.lite.experimental.Analyzer.analyze(model_content=content)
    description = printed.getvalue()
    # Such as "T#10(functional/conv2d/convolution) shape_signature:[-1, 6, 6, 4], type:INT8".
    tensors = re.findall(r"^ *T#(\d+)\((.*)\) shape.*?, type:(\w+)", description, re.MULTILINE)
    names = {number: name for number, name, dtype in tensors if dtype.startswith("FLOAT")}
    # Such as "Op#2 CONV_2D(T#8, T#9, T#6) -> [T#10]".
    operations = re.findall(r"^ *Op#\d+ (\w+)\(.*\) -> \[(.*)\]", description, re.MULTILINE)
    in_float = [
        f"{kind} ({names[number]})"
        for kind, outputs in operations
        for number in re.findall(r"T#(\d+)", outputs)
        if number in names and kind != "DEQUANTIZE"
    ]
    if in_float:
        raise ValueError(
            f"export_litert: LiteRT would compute {', '.join(in_float)} in float. Replace these "
            "operations, or write a float file: conversion.export(model, path), then "
            "tf.lite.TFLiteConverter.from_saved_model(path)."
        )


def _called_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers that a model calls, with those of the models within it."""
    for layer in model.layers:
        if rebuilding.is_graph(layer):
            yield from _called_layers(layer)
        else:
            yield layer


def _problem(layer: keras.layers.Layer) -> str | None:
    """The reason why LiteRT would not compute a layer with integers, or None."""
    if layer.compute_dtype != "float32" and not isinstance(layer, keras.layers.InputLayer):
        return f"{type(layer).__name__} in {layer.compute_dtype}, not in float32"
    if isinstance(layer, SurrogateWeights):
        return _weight_problem(layer)
    if isinstance(layer, _INTEGER_WEIGHTS):
        return f"{type(layer).__name__} with weights in float"
    if type(layer) in _INTEGER:
        return None
    if getattr(layer, "activation", None) is keras.activations.softmax:
        return None
    applied = activations.last(layer)
    if applied is None:
        return type(layer).__name__
    if type(applied.function) in _INTEGER_FUNCTIONS:
        return None
    return f"{type(layer).__name__} of {applied.name}"


def _weight_problem(wrapper: SurrogateWeights) -> str | None:
    if type(wrapper.layer) not in _INTEGER_WEIGHTS:
        return type(wrapper.layer).__name__
    if _unit(wrapper) is None:
        return f"weights of {wrapper.surrogate.forward.title}, which has no equal steps"
    if _one_step(wrapper) and wrapper.per != "tensor":
        return f'{type(wrapper.layer).__name__} without per="tensor"'
    return None


def _one_step(wrapper: SurrogateWeights) -> bool:
    """True for a layer whose kernel has one step in LiteRT, and not one for each channel."""
    return isinstance(wrapper.layer, ONE_STEP)


def _unit(wrapper: SurrogateWeights) -> float | None:
    """The number of which all levels are multiples by at most 127; None if there is none."""
    positive = [level for level in wrapper.levels or () if level > 0]
    if not positive:
        return None
    unit = min(positive)
    multiples = np.array(wrapper.levels) / unit
    is_even = np.allclose(multiples, np.round(multiples), atol=1e-4)
    return unit if is_even and np.abs(multiples).max() <= _LARGEST + 0.5 else None


def _inference(model: keras.Model) -> tf.types.experimental.ConcreteFunction:
    """The model in inference mode, with kernels that LiteRT recognises as quantised."""
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in model.inputs]

    values = [(variable, variable.numpy()) for variable in model.variables]

    @tf.function(input_signature=specs)
    def serve(*inputs):
        # The converter recognises ranges and kernels only as constants.
        constants = [(variable, tf.constant(value)) for variable, value in values]
        with keras.StatelessScope(constants):
            return model(keras.tree.pack_sequence_as(model.input, inputs), training=False)

    wrappers = [layer for layer in _called_layers(model) if isinstance(layer, SurrogateWeights)]
    with methods.replaced(wrappers, "effective_weights", _fake_quantized):
        return serve.get_concrete_function()


def _fake_quantized(wrapper, effective_weights):
    """The effective weights, each as a constant and the operation that LiteRT takes steps from."""
    unit = _unit(wrapper)
    levels = {name: np.array(level) / unit for name, level in wrapper.weight_levels().items()}
    values = {name: np.array(value) for name, value in effective_weights().items()}

    def served():
        return {name: _with_step(values[name], levels[name], _one_step(wrapper)) for name in values}

    return served


def _with_step(value: np.ndarray, level: np.ndarray, one_step: bool) -> tf.Tensor:
    """The fake quantisation of value = step * level, which does not change it.

    Args:
        value: a kernel.
        level: its integers, from -127 to 127.
        one_step: True for one step, False for one for each channel, the last axis.
    """
    axes = None if one_step else tuple(range(value.ndim - 1))
    largest = np.abs(value).max(axes)
    # A channel of zeros has any step.
    largest_level = np.abs(level).max(axes)
    step = np.where(largest_level > 0, largest / np.maximum(largest_level, 1), 1.0)
    reach = (_LARGEST * step).astype("float32")
    kernel = tf.constant(value, tf.float32)
    if one_step:
        return tf.quantization.fake_quant_with_min_max_vars(
            kernel, -reach, reach, narrow_range=True
        )
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        kernel, -reach, reach, narrow_range=True
    )

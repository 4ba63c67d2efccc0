"""Compilation of an activation by XLA on its own, inside a graph that XLA does not compile.

`pays` tells where, `hinted` compiles there, `required` compiles everywhere.

A hinted function carries a hint, `tf.xla.experimental.jit_scope`, and no command. TensorFlow
compiles it when it runs, and runs it operation by operation where it has no XLA, so that a graph
with hints can be saved and served anywhere. Inside a function that XLA compiles as a whole a hint
has no effect.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# The smallest tensor that is worth it. Measured by `tests/benchmarks/activations.py --sizes` on two
# cores: from here on the published pairs take less time, and with eighty times as many elements
# half of it. Each compilation takes 0.05 to 0.1 s.
LEAST_ELEMENTS = 2**17

# The number of shapes that one process compiles at most; further ones run as before.
MOST_SHAPES = 64

_shapes: set[tuple[tf.TensorShape, tf.DType]] = set()

# These go over no tensor: inputs of the graph, constants, and names of other tensors.
_FREE = {"Placeholder", "Const", "Identity", "StopGradient"}


def pays(owner: Any, method: str, *arguments: tf.Tensor) -> bool:
    """Tell if compiling `owner.method(*arguments)` by itself saves time.

    It does in a graph, for large tensors of static shape, where the method has several operations.
    It was measured on CPUs only, outside of `tf.distribute`, so that it is False elsewhere.

    Args:
        owner: an object; False if it is not hashable.
        method: the name of an elementwise method of `owner`.
        arguments: floating tensors of one shape and dtype.
    """
    x = arguments[0]
    if tf.executing_eagerly() or not _is_large(x.shape) or not _on_cpu():
        return False
    if not _is_hashable(owner):
        return False
    return _operations(owner, method, len(arguments), x.dtype) > 1 and _is_counted(x)


def _is_hashable(owner: Any) -> bool:
    try:
        hash(owner)
    except TypeError:
        return False
    return True


def _is_large(shape: tf.TensorShape) -> bool:
    elements = shape.num_elements()
    return elements is not None and elements >= LEAST_ELEMENTS


def _on_cpu() -> bool:
    if tf.distribute.has_strategy():
        return False
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def _is_counted(x: tf.Tensor) -> bool:
    """Count the shape of `x`; False if it is new and there are too many."""
    case = (x.shape, x.dtype)
    if case not in _shapes and len(_shapes) >= MOST_SHAPES:
        return False
    _shapes.add(case)
    return True


@functools.lru_cache(maxsize=1024)
def _operations(owner: Any, method: str, arguments: int, dtype: tf.DType) -> int:
    """The number of operations of a method that go over a whole tensor."""
    # No other dimension has this size.
    shape = tf.TensorShape([7])
    traced = tf.function(getattr(owner, method), autograph=False)
    with tf.init_scope():
        graph = traced.get_concrete_function(*[tf.TensorSpec(shape, dtype)] * arguments).graph
    return sum(
        operation.type not in _FREE and any(output.shape == shape for output in operation.outputs)
        for operation in graph.get_operations()
    )


@functools.lru_cache(maxsize=256)
def hinted(owner: Any, method: str, shared: bool) -> Callable[..., tf.Tensor]:
    """`owner.method` as a function that TensorFlow compiles when a graph runs it.

    Args:
        owner: a hashable object.
        method: the name of an elementwise method of `owner`.
        shared: True: all calls with one shape share one compilation, which then takes as long for a
            hundred layers as for one. The LiteRT converter knows no such calls, so that a value,
            which is converted, needs False.
    """

    def compute(*arguments):
        with tf.xla.experimental.jit_scope():
            return getattr(owner, method)(*arguments)

    # A function that is not inlined is compiled once for all of its calls.
    attributes = {"_noinline": True} if shared else None
    return tf.function(compute, autograph=False, experimental_attributes=attributes)


@functools.lru_cache(maxsize=256)
def required(owner: Any, method: str) -> Callable[..., tf.Tensor]:
    """`owner.method`, compiled by XLA in every mode and for every shape."""
    return tf.function(getattr(owner, method), jit_compile=True, autograph=False)

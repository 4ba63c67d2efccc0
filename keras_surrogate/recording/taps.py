"""Gradients, updates and outputs of layers, as a train step shows them while it is traced.

Methods of the model's optimizers and layers are wrapped while the step is traced, and only then.
There is no second backward pass and no subclass, and the loss may be any.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_surrogate import methods
from keras_surrogate.custom_gradient import with_gradient
from keras_surrogate.recording.norms import at_least_float32, nonzero_rows
from keras_surrogate.recording.optimizers import (
    loss_scale,
    optimizers_of,
    reaches,
    with_inner,
)

if TYPE_CHECKING:
    from keras_surrogate.recording.applied import AppliedGradients
    from keras_surrogate.recording.quantities import GradientQuantity


class TracedStep:
    """The tensors that one tracing of a train step has shown.

    Args:
        applied: the `AppliedGradients` that the step writes; default None.

    Attributes:
        calls: the ids of the called layers, in the order in which their first calls ended.
        gradients: tuples (optimizer, gradient, variable) in the order of their application, without
            gradients that are None.
        weights_before: from a variable's id to its value before its first application.
        outputs: from an observed layer's id to its floating outputs, a list over its calls.
        deltas: from an observed layer's id to the gradients that reached those outputs in the
            backward pass.
        rehearsed: the inner products that `rehearsal.Rehearsals` computed before the step, with a
            row for each of the variables whose ids are `rehearsed_variables`.
        inputs: from an observed layer's id to its first input, a list over its calls.
        masks: the same for the mask of that input, a tensor or None.
        input_deltas: the same as `deltas` for these inputs.
        is_hidden: whether a gradient cannot leave a loop, a branch or a tf.function of the step.
        scales: from the id of an optimizer to its loss scale when it received its gradients, which
            it may change then.
    """

    calls: dict[int, None]
    gradients: list[tuple[keras.optimizers.Optimizer, tf.Tensor | tf.IndexedSlices, keras.Variable]]
    weights_before: dict[int, tf.Tensor]
    outputs: dict[int, list[tf.Tensor]]
    deltas: dict[int, list[tf.Tensor]]
    rehearsed: tf.Tensor
    rehearsed_variables: list[int]
    inputs: dict[int, list[tf.Tensor]]
    masks: dict[int, list[tf.Tensor | None]]
    input_deltas: dict[int, list[tf.Tensor]]
    is_hidden: bool
    scales: dict[int, tf.Tensor | float]

    def __init__(self, applied: AppliedGradients | None = None) -> None:
        self.calls = {}
        self.gradients = []
        self.weights_before = {}
        self.outputs = {}
        self.deltas = {}
        self.inputs = {}
        self.masks = {}
        self.input_deltas = {}
        self.is_hidden = False
        self.scales = {}
        self._applied = applied
        self._graph = _graph()

    def add(
        self, where: dict[int, list[Any]], layer: keras.layers.Layer, tensor: tf.Tensor | None
    ) -> None:
        """Add a tensor of a layer to `outputs`, `inputs`, their masks or their deltas.

        Tensors within a loop or branch are left out, because they cannot leave it.
        """
        if _graph() is self._graph:
            where.setdefault(id(layer), []).append(tensor)

    def add_gradient(
        self,
        optimizer: keras.optimizers.Optimizer,
        gradient: tf.Tensor | tf.IndexedSlices,
        variable: keras.Variable,
    ) -> None:
        """Add a gradient that an optimizer receives.

        Raises:
            ValueError: the raw gradient cannot leave a part of the step.
        """
        values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
        # Tensors of eager execution belong to no graph.
        if getattr(values, "graph", None) not in (None, self._graph):
            self.is_hidden = True
            if self._applied is None:
                raise ValueError(
                    f"GradientNormLogger: the gradient of {variable.path} belongs to a "
                    "@tf.function, a branch or a loop within the train step, and cannot leave it. "
                    'Use kind="applied", or let train_step be an ordinary method: Keras compiles '
                    "it."
                )
        self.gradients.append((optimizer, gradient, variable))

    def note_weights(self, variable: keras.Variable) -> None:
        """Note the value of a variable, before its first application."""
        if id(variable) in self.weights_before:
            return
        # Within a branch or loop: read before it, because a tensor cannot leave it.
        with self._graph.as_default() if self._graph else contextlib.nullcontext():
            self.weights_before[id(variable)] = tf.identity(variable.value)

    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizers that received gradients, each once."""
        return list({id(optimizer): optimizer for optimizer, _, _ in self.gradients}.values())

    def unscaled(self, optimizer: keras.optimizers.Optimizer) -> list[tf.Tensor]:
        """The gradients that an optimizer received, divided by its loss scale."""
        return _divided(
            [tensor for owner, tensor, _ in self.gradients if owner is optimizer],
            self._scale(optimizer),
        )

    def reaching(self, optimizer: keras.optimizers.Optimizer) -> list[tf.Tensor | tf.IndexedSlices]:
        """Those of `unscaled` that reach the optimizer which clips within this one."""
        received = [pair for owner, *pair in self.gradients if owner is optimizer]
        scale = self._scale(optimizer)
        return [
            _unscaled(gradient, scale)
            for gradient, variable in received
            if reaches(optimizer, variable)
        ]

    def updates_none_of(self, variables: Iterable[keras.Variable]) -> bool:
        """True if optimizers received gradients of some of these and update none of them."""
        if self._applied is None:
            return False
        received = {id(variable) for _, _, variable in self.gradients}
        updated = {id(variable) for variable in self._applied.seen()}
        ids = set(map(id, variables))
        return bool(ids & received) and not ids & updated

    def note_scale(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Note the loss scale of an optimizer, before its first application."""
        # A tensor within a loop or branch cannot leave it.
        if _graph() is self._graph and id(optimizer) not in self.scales:
            self.scales[id(optimizer)] = loss_scale(optimizer)

    def _scale(self, optimizer: keras.optimizers.Optimizer) -> tf.Tensor | float:
        if id(optimizer) in self.scales:
            return self.scales[id(optimizer)]
        return loss_scale(optimizer)

    def unscaled_deltas(
        self, layer: keras.layers.Layer, of_inputs: bool = False
    ) -> list[tf.Tensor]:
        """The gradients of a layer's outputs, or of its inputs, divided by the loss scale."""
        deltas = self.input_deltas if of_inputs else self.deltas
        return _divided(deltas.get(id(layer), []), self._scale(self.optimizers()[0]))

    def measured(self, quantity: GradientQuantity) -> tuple[tf.Tensor, list[keras.Variable]]:
        """The measurements of a raw or applied gradient quantity.

        Returns:
            A tensor with one row for each variable, and the variables.
        """
        if self._applied:
            return self._applied.measured(quantity)
        tensors = []
        variables = []
        for optimizer in self.optimizers():
            tensors += self.unscaled(optimizer)
            variables += [variable for owner, _, variable in self.gradients if owner is optimizer]
        return quantity.measure(tensors), variables


def _divided(
    tensors: Iterable[tf.Tensor | tf.IndexedSlices], scale: tf.Tensor | float
) -> list[tf.Tensor]:
    dense = [at_least_float32(nonzero_rows(tensor)) for tensor in tensors]
    if tf.get_static_value(scale) == 1:
        return dense
    return [tensor / tf.cast(scale, tensor.dtype) for tensor in dense]


def _unscaled(
    gradient: tf.Tensor | tf.IndexedSlices, scale: tf.Tensor | float
) -> tf.Tensor | tf.IndexedSlices:
    if not isinstance(gradient, tf.IndexedSlices):
        return at_least_float32(gradient) / tf.cast(scale, at_least_float32(gradient).dtype)
    values = _unscaled(gradient.values, scale)
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


def _graph() -> tf.Graph | None:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


class Taps:
    """Wrapped methods, shared by the threads that trace a step.

    The replicas of a `MirroredStrategy` trace in threads that alternate within a step. So the
    methods stay wrapped until the last thread has finished, and a tensor goes to the `TracedStep`
    of the thread that computed it.

    Args:
        model: the model whose optimizers' `apply` shows the gradients: the compiled optimizer, and
            those that a custom train step uses. Of optimizers within optimizers (loss scaling) only
            the outermost is observed, because it receives the step's own gradients.
        layers: layers whose calls are noted; default none.
        observed: layers whose calls are noted and whose outputs are kept; default none.
        deltas: whether the gradients that reach those outputs are kept, default False.
        input_deltas: whether those of the observed layers' first inputs are kept, default False.
        weights: whether the weights before the step are kept, default False.
        applied: an `AppliedGradients`, which receives the gradients that the updates are made with;
            default None.
    """

    def __init__(
        self,
        model: keras.Model,
        layers: Iterable[keras.layers.Layer] = (),
        observed: Iterable[keras.layers.Layer] = (),
        deltas: bool = False,
        input_deltas: bool = False,
        weights: bool = False,
        applied: AppliedGradients | None = None,
    ) -> None:
        observed = list(observed)
        self._model = model
        self._layers = {id(layer): layer for layer in (*layers, *observed)}
        self._observed = set(map(id, observed))
        self._deltas = deltas
        self._input_deltas = input_deltas
        self._weights = weights
        self._applied = applied
        self._lock = threading.Lock()
        self._open = 0
        self._restores: list[Callable[[], None]] = []
        self._thread = threading.local()

    def note_no_more_calls(self) -> None:
        """Wrap only the observed layers from the next step on."""
        self._layers = {key: layer for key, layer in self._layers.items() if key in self._observed}

    @contextlib.contextmanager
    def step(self) -> Iterator[TracedStep]:
        """A context that gives a `TracedStep` with the tensors which this thread traces in it."""
        step = TracedStep(self._applied)
        self._thread.step = step
        self._thread.inside = False
        self._count(1)
        try:
            yield step
        finally:
            self._count(-1)
            self._thread.step = None

    def _count(self, change: int) -> None:
        """Count the open contexts. The first wraps the methods, and the last restores them."""
        with self._lock:
            if self._open == 0:
                self._restores = [methods.replace(*wrapper) for wrapper in self._wrappers()]
            self._open += change
            if self._open == 0:
                for restore in reversed(self._restores):
                    restore()

    def _wrappers(self) -> Iterator[tuple[object, str, methods.Wrap]]:
        """The arguments of `methods.replace` for every method to wrap."""
        optimizers = optimizers_of(self._model)
        for optimizer in optimizers:
            yield optimizer, "apply", self._applying
        for layer in self._layers.values():
            yield layer, "call", self._calling
        if self._applied:
            for optimizer in with_inner(optimizers):
                yield optimizer, "update_step", self._updating

    def _applying(
        self, optimizer: keras.optimizers.Optimizer, apply: Callable[..., Any]
    ) -> Callable[..., Any]:
        def applying(grads, trainable_variables=None):
            step = getattr(self._thread, "step", None)
            # The call of an optimizer within another one passes on the same gradients.
            if step is None or self._thread.inside:
                return apply(grads, trainable_variables)
            self._see_gradients(step, optimizer, grads, trainable_variables)
            self._thread.inside = True
            try:
                return apply(grads, trainable_variables)
            finally:
                self._thread.inside = False

        return applying

    def _see_gradients(
        self,
        step: TracedStep,
        optimizer: keras.optimizers.Optimizer,
        gradients: Sequence[tf.Tensor | tf.IndexedSlices | None],
        variables: Sequence[keras.Variable] | None,
    ) -> None:
        step.note_scale(optimizer)
        if variables is None:
            variables = self._model.trainable_variables
            if len(variables) != len(gradients):
                raise ValueError(
                    f"GradientNormLogger: {optimizer.name} was called with {len(gradients)} "
                    f"gradients and without their variables, but {self._model.name} has "
                    f"{len(variables)} trainable variables. Pass them: "
                    "optimizer.apply(gradients, variables)."
                )
        for gradient, variable in zip(gradients, variables, strict=True):
            if gradient is None:
                continue
            step.add_gradient(optimizer, gradient, variable)
            if self._weights:
                step.note_weights(variable)

    def _calling(self, layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def calling(*args, **kwargs):
            step = getattr(self._thread, "step", None)
            is_observed = step is not None and id(layer) in self._observed
            if is_observed and args:
                mask = kwargs.get("mask")
                args = (self._see_input(step, layer, args[0], mask), *args[1:])
            outputs = call(*args, **kwargs)
            if step is None:
                return outputs
            step.calls.setdefault(id(layer))
            if not is_observed:
                return outputs
            return keras.tree.map_structure(lambda output: self._see(step, layer, output), outputs)

        return calling

    def _see_input(self, step: TracedStep, layer: keras.layers.Layer, x: Any, mask: Any) -> Any:
        if not _is_dense(x):
            return x
        step.add(step.inputs, layer, x)
        step.add(step.masks, layer, mask)
        if not self._input_deltas:
            return x
        return _watched(x, lambda delta: step.add(step.input_deltas, layer, delta))

    def _see(self, step: TracedStep, layer: keras.layers.Layer, output: Any) -> Any:
        if not _is_dense(output):
            return output
        step.add(step.outputs, layer, output)
        if not self._deltas:
            return output
        return _watched(output, lambda delta: step.add(step.deltas, layer, delta))

    def _updating(
        self, optimizer: keras.optimizers.Optimizer, update_step: Callable[..., Any]
    ) -> Callable[..., Any]:
        def updating(gradient, variable, learning_rate):
            self._applied.see(gradient, variable)
            return update_step(gradient, variable, learning_rate)

        return updating


def _is_dense(x: object) -> bool:
    """True for floating tensors, but not for sparse and ragged ones."""
    return isinstance(x, tf.Tensor) and x.dtype.is_floating


def _watched(x: tf.Tensor, see: Callable[[tf.Tensor], None]) -> tf.Tensor:
    """A tensor equal to `x`. The backward pass calls `see` with its gradient."""

    def gradient(upstream):
        see(upstream)
        return upstream

    return with_gradient(x, lambda x: (tf.identity(x), gradient), tf.identity)

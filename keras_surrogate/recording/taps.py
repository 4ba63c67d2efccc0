"""What a train step shows while it is traced: gradients, updates, the outputs of layers and their gradients.

Methods of the model's optimizers and layers are wrapped while the step is traced, and only then.
There is no second backward pass, no subclass, and nothing here knows the loss.
"""

import contextlib
import functools
import threading

import keras
import tensorflow as tf

from keras_surrogate import methods
from keras_surrogate.custom_gradient import with_gradient
from keras_surrogate.recording.norms import at_least_float32
from keras_surrogate.recording.optimizers import loss_scale, optimizers_of, with_inner


class Step:
    """What one tracing of a train step has shown.

    Attributes:
        calls: the ids of the layers that were called, in the order in which their first calls
            ended.
        gradients: (optimizer, gradient, variable) in the order of their application, without
            gradients that are None.
        weights_before: a variable's value before its first application, by the variable's id.
        outputs: the floating outputs of each observed layer, a list over its calls, by the layer's
            id.
        deltas: the gradients that reached those outputs in the backward pass, by the layer's id.
    """

    def __init__(self, applied=None):
        self.calls = {}
        self.gradients = []
        self.weights_before = {}
        self.outputs = {}
        self.deltas = {}
        self._applied = applied
        self._graph = _graph()

    def add(self, where, layer, tensor):
        """Notes a tensor of a layer; not from within a loop or branch, whose tensors cannot leave it."""
        if _graph() is self._graph:
            where.setdefault(id(layer), []).append(tensor)

    def optimizers(self):
        """Those that were given gradients, each once."""
        return list({id(optimizer): optimizer for optimizer, _, _ in self.gradients}.values())

    def unscaled(self, optimizer):
        """The gradients that an optimizer was given, freed of the factor that the loss was multiplied with."""
        return _divided(
            [tensor for owner, tensor, _ in self.gradients if owner is optimizer],
            loss_scale(optimizer),
        )

    def unscaled_deltas(self, layer):
        """The gradients that reached a layer's outputs, freed of that factor."""
        return _divided(self.deltas.get(id(layer), []), loss_scale(self.optimizers()[0]))

    def measured(self, quantity):
        """A gradient quantity's measurements, raw or applied: one row a variable, and the variables."""
        if self._applied:
            return self._applied.measured(quantity)
        tensors = [tensor for optimizer in self.optimizers() for tensor in self.unscaled(optimizer)]
        variables = [
            v
            for optimizer in self.optimizers()
            for owner, _, v in self.gradients
            if owner is optimizer
        ]
        return quantity.measure(tensors), variables


def _divided(tensors, scale):
    tensors = [at_least_float32(tf.convert_to_tensor(tensor)) for tensor in tensors]
    return (
        tensors
        if tf.get_static_value(scale) == 1
        else [tensor / tf.cast(scale, tensor.dtype) for tensor in tensors]
    )


def _graph():
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


class Taps:
    """Wrapped methods, shared by the threads that trace a step.

    The replicas of a `MirroredStrategy` trace in threads that take turns in the middle of a step.
    So the methods stay wrapped until the last one is done, and what is seen goes to the step of the
    thread that sees it.

    Args:
        model: whose optimizers' `apply` shows the gradients: of the compiled optimizer and of those
            that a custom train step uses. Of optimizers within optimizers (loss scaling) only the
            outermost is seen, since it has the step's own gradients.
        layers: whose calls are noted; default none.
        observed: those of them whose outputs are seen as well; default none.
        deltas: whether the gradients that reach those outputs are seen as well.
        weights: whether the weights are kept as they were before.
        applied: an `AppliedGradients`, shown what the updates are made with; default none.
    """

    def __init__(self, model, layers=(), observed=(), deltas=False, weights=False, applied=None):
        self._model = model
        self._layers = {id(layer): layer for layer in (*layers, *observed)}
        self._observed = set(map(id, observed))
        self._deltas = deltas
        self._weights = weights
        self._applied = applied
        self._lock = threading.Lock()
        self._open = 0
        self._thread = threading.local()

    def note_no_more_calls(self):
        """From the next step on only the observed layers are wrapped."""
        self._layers = {key: layer for key, layer in self._layers.items() if key in self._observed}

    @contextlib.contextmanager
    def step(self):
        """While open, what this thread traces goes into the `Step` that is given."""
        self._thread.step, self._thread.inside = Step(self._applied), False
        self._count(1)
        try:
            yield self._thread.step
        finally:
            self._count(-1)
            self._thread.step = None

    def _count(self, change):
        with self._lock:
            if self._open == 0:
                self._restore = [methods.replace(*wrapper) for wrapper in self._wrappers()]
            self._open += change
            if self._open == 0:
                for restore in reversed(self._restore):
                    restore()

    def _wrappers(self):
        optimizers = optimizers_of(self._model)
        yield from ((optimizer, "apply", self._applying) for optimizer in optimizers)
        yield from ((layer, "call", self._calling) for layer in self._layers.values())
        if self._applied:
            yield from (
                (optimizer, "update_step", self._updating) for optimizer in with_inner(optimizers)
            )

    def _applying(self, optimizer, apply):
        def applying(grads, trainable_variables=None):
            step = getattr(self._thread, "step", None)
            if step is None or self._thread.inside:
                return apply(grads, trainable_variables)
            self._see_gradients(step, optimizer, grads, trainable_variables)
            self._thread.inside = True
            try:
                return apply(grads, trainable_variables)
            finally:
                self._thread.inside = False

        return applying

    def _see_gradients(self, step, optimizer, gradients, variables):
        variables = self._model.trainable_variables if variables is None else variables
        for gradient, variable in zip(gradients, variables, strict=True):
            if gradient is not None:
                step.gradients.append((optimizer, gradient, variable))
                if self._weights and id(variable) not in step.weights_before:
                    step.weights_before[id(variable)] = tf.identity(variable.value)

    def _calling(self, layer, call):
        @functools.wraps(call)
        def calling(*args, **kwargs):
            outputs = call(*args, **kwargs)
            step = getattr(self._thread, "step", None)
            if step is None:
                return outputs
            step.calls.setdefault(id(layer))
            if id(layer) not in self._observed:
                return outputs
            return keras.tree.map_structure(lambda output: self._see(step, layer, output), outputs)

        return calling

    def _see(self, step, layer, output):
        if not tf.is_tensor(output) or not output.dtype.is_floating:
            return output
        step.add(step.outputs, layer, output)
        return (
            _watched(output, lambda delta: step.add(step.deltas, layer, delta))
            if self._deltas
            else output
        )

    def _updating(self, optimizer, update_step):
        def updating(gradient, variable, learning_rate):
            self._applied.see(gradient, variable)
            return update_step(gradient, variable, learning_rate)

        return updating


def _watched(x, see):
    """`x` itself; `see` is called with its gradient when the backward pass comes by."""

    def gradient(upstream):
        see(upstream)
        return upstream

    return with_gradient(x, lambda x: (tf.identity(x), gradient), tf.identity)

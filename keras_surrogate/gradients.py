"""Gradient norms of the training step itself: taken where the step hands its gradients to the optimizer.

There is no second backward pass, and nothing here knows the loss. While a train step is traced, the optimizers'
`apply` is wrapped; what it is given, one number per layer, goes into a buffer that the graph writes and the host reads.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf


def norms(gradients):
    """The L2 norms sqrt(sum(gradient**2)) of some tensors, in float64, shape (tensors,).

    One pass over each tensor as long as all sums of squares fit its dtype; otherwise, as in gradients that vanish or
    explode by twenty orders of magnitude, each tensor is scaled by its largest element before it is squared.

    Args:
        gradients: floating tensors of any shape, or `tf.IndexedSlices`, whose repeated rows are added up; at least one.
    """
    gradients = [_at_least_float32(tf.convert_to_tensor(gradient)) for gradient in gradients]
    squares = tf.stack([tf.cast(tf.reduce_sum(tf.square(gradient)), tf.float64) for gradient in gradients])
    fit = tf.reduce_all((squares > _LEAST_SQUARE) & tf.math.is_finite(squares))
    return tf.cond(fit, lambda: tf.sqrt(squares), lambda: tf.stack([_scaled_norm(gradient) for gradient in gradients]))


# Sums of squares below this may have lost elements to underflow in float32, whose smallest normal number is 1.2e-38.
_LEAST_SQUARE = 1e-30


def _at_least_float32(tensor):
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def _scaled_norm(tensor):
    largest = tf.reduce_max(tf.abs(tensor))
    unit = tf.where(largest > 0, largest, tf.ones_like(largest))
    return tf.cast(unit, tf.float64) * tf.cast(tf.sqrt(tf.reduce_sum(tf.square(tensor / unit))), tf.float64)


def layer_variables(model):
    """The trainable variables of every layer that has some: a dictionary from name to list, first layer first.

    Layers of nested models are named by path, "encoder/dense"; a layer or variable that is used twice appears once;
    equal names are told apart by a number; variables that the model itself owns stand under the model's name.
    """
    groups, seen = {}, set()
    for name, owner in [*_named_layers(model), (model.name, model)]:
        variables = [variable for variable in owner.trainable_variables if id(variable) not in seen]
        seen.update(map(id, variables))
        if variables:
            groups[_unused(name, groups)] = variables
    return groups


def _named_layers(model, prefix=""):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _named_layers(layer, f"{prefix}{layer.name}/")
        yield prefix + layer.name, layer


def _unused(name, taken):
    """`name`, with the first of _1, _2, ... that makes it new."""
    candidates = [name, *(f"{name}_{number}" for number in range(1, len(taken) + 1))]
    return next(candidate for candidate in candidates if candidate not in taken)


@contextlib.contextmanager
def tapped(optimizers, record):
    """While open, `record(optimizer, gradients, variables)` sees what each optimizer is about to apply.

    Of optimizers within optimizers (loss scaling) only the outermost is seen, since it has the step's own gradients.
    """
    applying = []

    def tap(optimizer, apply):
        def tapping(grads, trainable_variables=None):
            if not applying:
                record(optimizer, grads, trainable_variables)
            applying.append(optimizer)
            try:
                return apply(grads, trainable_variables)
            finally:
                applying.pop()

        return tapping

    for optimizer in optimizers:
        vars(optimizer)["apply"] = tap(optimizer, optimizer.apply)
    try:
        yield
    finally:
        for optimizer in optimizers:
            del vars(optimizer)["apply"]


def _optimizers(model):
    """Every optimizer that the model holds: the compiled one, and those a custom train step uses."""
    held = [model.optimizer, *vars(model).values()]
    return list({id(item): item for item in held if isinstance(item, keras.optimizers.Optimizer)}.values())


class RowBuffer:
    """Rows of numbers that a graph writes, one a step, and the host reads: the newest `capacity` of them are kept."""

    def __init__(self, width, capacity):
        with tf.init_scope():
            self._rows = tf.Variable(tf.zeros((capacity, width), tf.float64), trainable=False)
            self._written = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._capacity = capacity
        self._read = 0

    def write(self, row):
        """Appends a row, in graph. A masked assignment, because XLA compiles it well."""
        here = tf.range(self._capacity, dtype=tf.int64) == self._written % self._capacity
        self._rows.assign(tf.where(here[:, tf.newaxis], row, self._rows))
        self._written.assign_add(1)

    def read(self):
        """The rows written since the last call, oldest first: an array of shape (rows, width)."""
        written = int(self._written.numpy())
        first = max(self._read, written - self._capacity)
        self._read = written
        return self._rows.numpy()[np.arange(first, written) % self._capacity]


class StepRecorder:
    """A second train function for a compiled model, which also records the gradient norms of each step it runs.

    Args:
        model: a compiled Keras model. Its own `train_function` is left as it was, and nothing stays patched.
        capacity: the number of steps kept until they are read.

    Attributes:
        plain: the model's own train function.
        function: the recording one; takes what the plain one takes, and trains the same.
        layer_names: names of the layers as in `layer_variables`; empty until the first step is traced.
        saw_gradients: whether the traced step handed any gradients to an optimizer.
    """

    def __init__(self, model, capacity):
        model.make_train_function()
        self.plain = model.train_function
        self.layer_names = []
        self.saw_gradients = False
        self._capacity = capacity
        self._buffer = None
        self._layers = None
        self.function = self._make_function(model)

    def _make_function(self, model):
        vars(model)["train_step"] = self._recording(model, model.train_step)
        try:
            model.make_train_function(force=True)
            return model.train_function
        finally:
            del vars(model)["train_step"]
            model.train_function = self.plain

    def _recording(self, model, train_step):
        def recording_step(data):
            applied = []
            with tapped(_optimizers(model), lambda *call: applied.extend(_unscaled_gradients(model, *call))):
                outputs = train_step(data)
            if self._buffer is None:
                self._allocate(layer_variables(model))
            self._write(applied)
            return outputs

        return recording_step

    def _allocate(self, layers):
        """Done while the first step is traced, because a model may not be built before."""
        self.layer_names = list(layers)
        self._layers = list(layers.values())
        self._buffer = RowBuffer(1 + len(layers), self._capacity)

    def _write(self, applied):
        """One row: the global norm, then that of each layer; NaN where the step applied no gradients at all."""
        self.saw_gradients = bool(applied)
        if not applied:
            return self._buffer.write(tf.fill([1 + len(self._layers)], tf.constant(np.nan, tf.float64)))
        variables, gradients, loss_scales = zip(*applied, strict=True)
        squares = tf.square(norms(gradients) / tf.stack(loss_scales))
        layers = tf.math.unsorted_segment_sum(squares, self._layer_of(variables), 1 + len(self._layers))[:-1]
        return self._buffer.write(tf.sqrt(tf.concat([[tf.reduce_sum(squares)], layers], axis=0)))

    def _layer_of(self, variables):
        """The index of each variable's layer; one past the last for a variable that is in none."""
        index = {id(variable): number for number, layer in enumerate(self._layers) for variable in layer}
        return [index.get(id(variable), len(self._layers)) for variable in variables]

    def read(self):
        """Global norms, shape (steps,), and layer norms, shape (steps, layers), recorded since the last call."""
        rows = self._buffer.read() if self._buffer else np.empty((0, 1))
        return rows[:, 0], rows[:, 1:]


def _unscaled_gradients(model, optimizer, gradients, variables):
    """(variable, gradient, the factor that the loss was multiplied with) for each variable that has a gradient."""
    variables = model.trainable_variables if variables is None else variables
    loss_scale = tf.cast(optimizer.scale_loss(tf.constant(1.0)), tf.float64)
    pairs = zip(variables, gradients, strict=True)
    return [(variable, gradient, loss_scale) for variable, gradient in pairs if gradient is not None]

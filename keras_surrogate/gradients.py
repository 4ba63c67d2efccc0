"""Gradient norms of the training step itself: taken where the step hands its gradients to the optimizer.

There is no second backward pass, and nothing here knows the loss. While a train step is traced, the optimizers'
`apply` is wrapped; what it is given, one number per layer, goes into a buffer that the graph writes and the host reads.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf


def norm(gradient):
    """The L2 norm sqrt(sum(gradient**2)) in float64, also where the squares alone would overflow or underflow.

    Args:
        gradient: a floating tensor of any shape, or `tf.IndexedSlices`, whose repeated rows are added up.
    """
    gradient = tf.convert_to_tensor(gradient)
    if gradient.dtype in (tf.float16, tf.bfloat16):
        gradient = tf.cast(gradient, tf.float32)
    largest = tf.reduce_max(tf.abs(gradient))
    unit = tf.where(largest > 0, largest, tf.ones_like(largest))
    return tf.cast(unit, tf.float64) * tf.cast(tf.sqrt(tf.reduce_sum(tf.square(gradient / unit))), tf.float64)


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
            norms = {}
            with tapped(_optimizers(model), lambda *applied: norms.update(_variable_norms(model, *applied))):
                outputs = train_step(data)
            if self._buffer is None:
                self._allocate(layer_variables(model))
            self._write(norms)
            return outputs

        return recording_step

    def _allocate(self, layers):
        """Done while the first step is traced, because a model may not be built before."""
        self.layer_names = list(layers)
        self._layers = list(layers.values())
        self._buffer = RowBuffer(1 + len(layers), self._capacity)

    def _write(self, norms):
        """One row: the global norm, then that of each layer; NaN where the step applied no gradients at all."""
        self.saw_gradients = bool(norms)
        absent = tf.constant(0.0 if norms else np.nan, tf.float64)
        layers = [[norms.get(id(variable), absent) for variable in variables] for variables in self._layers]
        rows = [list(norms.values()) or [absent], *layers]
        self._buffer.write(tf.stack([norm(tf.stack(row)) for row in rows]))

    def read(self):
        """Global norms, shape (steps,), and layer norms, shape (steps, layers), recorded since the last call."""
        rows = self._buffer.read() if self._buffer else np.empty((0, 1))
        return rows[:, 0], rows[:, 1:]


def _variable_norms(model, optimizer, gradients, variables):
    """The norm of the unscaled gradient by `id` of the variable; variables without a gradient are left out."""
    variables = model.trainable_variables if variables is None else variables
    loss_scale = tf.cast(optimizer.scale_loss(tf.constant(1.0)), tf.float64)
    return {
        id(variable): norm(gradient) / loss_scale
        for gradient, variable in zip(gradients, variables, strict=True)
        if gradient is not None
    }

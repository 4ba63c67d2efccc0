"""Rehearsals: the model's own train step, run without its update, to compare two gradients.

A rehearsal knows no loss. It runs the train step, takes the gradients that would be applied, and
restores every variable. The first rehearsal of a sampled step has the model's own slopes, the
second one the true slopes, or the smooth network where a true slope is 0 everywhere. Both have the
weights, the batch, the random numbers and the moving averages of the step that follows.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import methods, uses
from keras_surrogate.custom_gradient import inlined_functions, smoothly, truly
from keras_surrogate.recording.buffers import local_variable
from keras_surrogate.recording.norms import LEAST_SQUARE, at_least_float32
from keras_surrogate.recording.optimizers import loss_scale, optimizers_of, with_inner

TrainStep: TypeAlias = "Callable[[Any], Any]"


class Rehearsals:
    """Compares the gradient of every so many steps with a reference.

    Args:
        model: the model.
        every: the steps whose number is a multiple of it are sampled.
        stride: the difference between the numbers of two recorded steps.
    """

    def __init__(self, model: keras.Model, every: int, stride: int) -> None:
        self._model = model
        self._every = every
        self._stride = stride
        self._number = local_variable(np.int64(0))
        self._is_prepared = False

    def start_at(self, step: int) -> None:
        """Set the number of the next recorded step."""
        self._number.assign(step)

    def products(self, train_step: TrainStep, data: Any) -> tf.Tensor:
        """The inner products of own gradient and reference, for the step that follows.

        Args:
            train_step: the model's own train step.
            data: its argument.

        Returns:
            A float64 tensor with a row for each trainable variable: own . own, other . other and
            own . other. NaN in a step that is not sampled.
        """
        if not self._is_prepared:
            self._prepare(train_step, data)
        count = len(self._model.trainable_variables)
        found = tf.cond(
            self._number % self._every == 0,
            lambda: self._compared(train_step, data),
            lambda: tf.fill([count, 3], tf.constant(np.nan, tf.float64)),
        )
        self._number.assign_add(self._stride)
        return tf.ensure_shape(found, [count, 3])

    def _prepare(self, train_step: TrainStep, data: Any) -> None:
        """Create what the first train step creates, such as the variables of compiled metrics.

        A branch of a graph must not create them, and a rehearsal must know them to restore them.
        """
        self._is_prepared = True
        if not tf.executing_eagerly():
            # Traced and never called.
            tf.function(functools.partial(self._run, train_step, data)).get_concrete_function()
            return
        before = set(map(id, self._variables()))
        self._run(train_step, data)
        for metric in self._model.metrics:
            if any(id(variable) not in before for variable in metric.variables):
                metric.reset_state()

    def _compared(self, train_step: TrainStep, data: Any) -> tf.Tensor:
        with uses.noted() as noted:
            own = self._run(train_step, data)
        context = smoothly() if uses.flat_forwards(noted) else truly()
        with context:
            other = self._run(train_step, data)
        pairs = [
            (own.get(id(variable)), other.get(id(variable)))
            for variable in self._model.trainable_variables
        ]
        # One pass over memory each, if all squares fit float32.
        products = _products(pairs, tf.float32)
        squares = products[:, :2]
        fit = tf.reduce_all((squares > LEAST_SQUARE) & tf.math.is_finite(squares))
        return tf.cond(fit, lambda: products, lambda: _products(pairs, tf.float64))

    def _run(self, train_step: TrainStep, data: Any) -> dict[int, tf.Tensor]:
        """The gradients that a train step would apply, by the ids of the variables."""
        found: dict[int, tf.Tensor] = {}
        with self._restored(), self._without_updates(found), inlined_functions():
            train_step(data)
        return found

    @contextlib.contextmanager
    def _restored(self) -> Iterator[None]:
        """A context that restores every variable, of a graph or in eager mode."""
        before = [(variable, tf.identity(_value(variable))) for variable in self._variables()]
        yield
        for variable, value in before:
            variable.assign(value)

    def _variables(self) -> list[keras.Variable | tf.Variable]:
        """Every variable that a train step could change, each once."""
        model = self._model
        held = [*model.variables, *model.metrics_variables]
        for optimizer in with_inner(optimizers_of(model)):
            held += optimizer.variables
        held += [value for value in vars(model).values() if isinstance(value, tf.Variable)]
        numeric = [one for one in held if tf.as_dtype(one.dtype) != tf.string]
        return list({id(variable): variable for variable in numeric}.values())

    @contextlib.contextmanager
    def _without_updates(self, found: dict[int, tf.Tensor]) -> Iterator[None]:
        """A context in which optimizers apply nothing, and their gradients go to `found`."""

        def withholding(optimizer, apply):
            def withheld(grads, trainable_variables=None):
                variables = trainable_variables
                if variables is None:
                    variables = self._model.trainable_variables
                scale = loss_scale(optimizer)
                for gradient, variable in zip(grads, variables, strict=True):
                    if gradient is None:
                        continue
                    dense = tf.cast(at_least_float32(tf.convert_to_tensor(gradient)), tf.float64)
                    raw = dense / tf.cast(scale, tf.float64)
                    # A step may apply several gradients of one variable.
                    found[id(variable)] = (
                        found[id(variable)] + raw if id(variable) in found else raw
                    )

            return withheld

        with methods.replaced(optimizers_of(self._model), "apply", withholding):
            yield


def _value(variable: keras.Variable | tf.Variable) -> tf.Tensor:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _products(
    pairs: Sequence[tuple[tf.Tensor | None, tf.Tensor | None]], dtype: tf.DType
) -> tf.Tensor:
    """own . own, other . other and own . other of each pair, in float64; NaN without own.

    Args:
        pairs: pairs of an own gradient and a reference; None is 0.
        dtype: the type in which they are multiplied, unless a gradient has a wider one.
    """
    rows = []
    for own, other in pairs:
        if own is None:
            rows.append(tf.fill([3], tf.constant(np.nan, tf.float64)))
            continue
        wider = max(own.dtype, dtype, key=lambda one: one.size)
        own = tf.reshape(tf.cast(own, wider), [-1])
        other = tf.zeros_like(own) if other is None else tf.reshape(tf.cast(other, wider), [-1])
        products = [tf.tensordot(*both, 1) for both in ((own, own), (other, other), (own, other))]
        rows.append(tf.cast(tf.stack(products), tf.float64))
    return tf.stack(rows)

"""Forward and backward passes of one batch that leave the model as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import methods
from keras_surrogate.layers.within import everything_within
from keras_surrogate.optimizers import LayerRates
from keras_surrogate.recording import norms
from keras_surrogate.recording.optimizers import innermost, without_loss_scaling


@dataclasses.dataclass(frozen=True)
class Pass:
    """The tensors of one forward and backward pass.

    Attributes:
        calls: from the id of each called layer, in the order of the calls' ends, to a list of
            pairs: its floating inputs and its floating outputs.
        outputs: the floating outputs of the model.
        gradients: from the id of each trainable variable to its gradient; None where nothing
            connects it with the output.
        deltas: the same for each input and output of a layer or of the model.
        tape: the persistent tape of the forward pass.
    """

    calls: dict[int, list[tuple[list[tf.Tensor], list[tf.Tensor]]]]
    outputs: tuple[tf.Tensor, ...]
    gradients: dict[int, tf.Tensor | None]
    deltas: dict[int, tf.Tensor | None]
    tape: tf.GradientTape

    def derives(self, tensors: Sequence[tf.Tensor], sources: Sequence[tf.Tensor]) -> bool:
        """True if a derivative of the tensors by the sources is defined, even if it is 0."""
        found = self.tape.gradient(tensors, sources) if tensors else []
        return any(gradient is not None for gradient in found)


def run(
    model: keras.Model,
    x: object,
    objective: Callable[[object], tuple[tf.Tensor, float]],
    layers: Iterable[keras.layers.Layer],
) -> Pass:
    """One forward and backward pass in training mode, run eagerly.

    Args:
        model: a built Keras model.
        x: tensors as the model takes them.
        objective: a function from the model's outputs to a scalar tensor, and to the factor by
            which this scalar and all gradients are too large.
        layers: the layers whose calls are recorded.
    """
    with tf.GradientTape(persistent=True) as tape, seen(layers) as calls:
        tape.watch(_floating(x))
        outputs = model(x, training=True)
        value, factor = objective(outputs)
    # Each tensor once: the output of one layer is the input of another.
    tensors = {
        id(tensor): tensor for tensor in [*_floating(x), *_floating(outputs), *_floating(calls)]
    }
    sources = {id(variable): variable.value for variable in model.trainable_variables}
    found = _derivatives(tape, value, {**sources, **tensors}, factor)
    gradients = {key: found[key] for key in sources}
    deltas = {key: found[key] for key in tensors}
    return Pass(calls, tuple(_floating(outputs)), gradients, deltas, tape)


def weight_gradients(
    model: keras.Model, x: object, objective: Callable[[object], tuple[tf.Tensor, float]]
) -> dict[int, tf.Tensor | None]:
    """`Pass.gradients` of the same pass, without the rest. Arguments as in `run`."""
    with tf.GradientTape() as tape:
        value, factor = objective(model(x, training=True))
    sources = {id(variable): variable.value for variable in model.trainable_variables}
    return _derivatives(tape, value, sources, factor)


def _derivatives(tape, value, sources, factor):
    """The gradient by each source, by the same key."""
    found = tape.gradient(value, list(sources.values()))
    return {
        key: None if gradient is None else _dense(gradient, factor)
        for key, gradient in zip(sources, found, strict=True)
    }


def depends(model: keras.Model, x: object, variables: Sequence[keras.Variable]) -> bool:
    """True if the outputs change when some weights change their sign. The weights are restored."""
    before = _outputs(model, x)
    held = [tf.identity(variable.value) for variable in variables]
    try:
        for variable, value in zip(variables, held, strict=True):
            variable.assign(-value)
        after = _outputs(model, x)
    finally:
        for variable, value in zip(variables, held, strict=True):
            variable.assign(value)
    return any(bool(tf.reduce_any(one != other)) for one, other in zip(before, after, strict=True))


def _outputs(model, x):
    """The outputs in training mode, with the same random numbers each time."""
    with unchanged(model):
        return _floating(model(x, training=True))


def _dense(gradient, factor):
    gradient = norms.at_least_float32(tf.convert_to_tensor(gradient))
    return gradient if factor == 1 else gradient / tf.cast(factor, gradient.dtype)


@contextlib.contextmanager
def seen(
    layers: Iterable[keras.layers.Layer],
) -> Iterator[dict[int, list[tuple[list[tf.Tensor], list[tf.Tensor]]]]]:
    """A context that records the inputs and outputs of each call of the layers, as in `Pass`."""
    calls = {}
    with methods.replaced(layers, "call", functools.partial(_recording, calls)):
        yield calls


def _recording(calls, layer, call):
    @functools.wraps(call)
    def recording(*args, **kwargs):
        outputs = call(*args, **kwargs)
        calls.setdefault(id(layer), []).append((_floating((args, kwargs)), _floating(outputs)))
        return outputs

    return recording


def _floating(structure):
    """The floating tensors in a structure that hold numbers; within a `tf.function` none do."""
    return [tensor for tensor in keras.tree.flatten(structure) if _is_floating(tensor)]


def _is_floating(tensor):
    return tf.is_tensor(tensor) and hasattr(tensor, "numpy") and tensor.dtype.is_floating


def random_cotangents(outputs: object, seed: int) -> tf.Tensor:
    """A scalar whose gradient by each example's outputs is random, with norm 1 / examples."""
    if not _floating(outputs):
        raise ValueError(
            "diagnose: the model has no output of floating numbers and therefore no gradients."
        )
    generator = np.random.default_rng(seed)
    total = 0.0
    for output in _floating(outputs):
        draws = generator.standard_normal((output.shape[0], int(np.prod(output.shape[1:]))))
        lengths = np.maximum(np.linalg.norm(draws, axis=1, keepdims=True), np.finfo(float).tiny)
        directions = draws / lengths / len(draws)
        output = norms.at_least_float32(output)
        cotangents = tf.constant(directions.reshape(output.shape), output.dtype)
        # The gradient of sum(output * cotangent) is the cotangent.
        total += tf.reduce_sum(tf.cast(output * cotangents, tf.float32))
    return total


def compiled_loss(
    model: keras.Model, x: object, y: object, outputs: object
) -> tuple[tf.Tensor, float]:
    """The loss of the train step times the optimizer's loss scale, and this scale."""
    loss = model.compute_loss(x=x, y=y, y_pred=outputs)
    optimizer = optimizer_of(model)
    factor = 1.0 if optimizer is None else float(optimizer.scale_loss(tf.constant(1.0)))
    return loss * factor, factor


def loss_function(model: keras.Model, x: object, y: object) -> Callable[[], float]:
    """The compiled loss of a batch in training mode, as a function of the present weights.

    Each call has the same random numbers, and leaves everything but the weights unchanged.

    Args:
        model: a built and compiled Keras model.
        x, y: inputs and targets, tensors.
    """

    def compute():
        with unchanged(model):
            outputs = model(x, training=True)
            return tf.cast(model.compute_loss(x=x, y=y, y_pred=outputs), tf.float64)

    if not model.run_eagerly:
        compute = tf.function(compute, autograph=False)
    return lambda: float(compute())


@contextlib.contextmanager
def unchanged(model: keras.Model) -> Iterator[None]:
    """A context that restores all variables: averages, seeds, metrics and states.

    Weights too, because layers such as SpectralNormalization assign to them in their call.
    """
    held = [*model.variables, *model.metrics_variables, *_states(model)]
    before = [(variable, tf.identity(variable.value)) for variable in held]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _states(model: keras.Model) -> list[keras.Variable]:
    """The states of stateful recurrent layers, which are not among a layer's variables."""
    states = [
        layer.states
        for layer in everything_within(model)
        if isinstance(layer, keras.layers.RNN) and layer.stateful
    ]
    return [one for one in keras.tree.flatten(states) if isinstance(one, keras.Variable)]


def updates(model: keras.Model, found: dict[int, tf.Tensor | None]) -> dict[int, tf.Tensor]:
    """The change of each variable, by its id, in the optimizer's next step with some gradients.

    A copy of the optimizer, with the same settings and state, is applied to copies of the
    variables. The copy differs in two points: it does not accumulate gradients over steps, and
    every variable takes part in weight decay.

    Args:
        model: a built Keras model.
        found: from the ids of its trainable variables to their gradients, or None.

    Returns:
        The changes; empty where there is no optimizer.

    Raises:
        ValueError: the optimizer cannot be created from its configuration.
    """
    optimizer = optimizer_of(model)
    if optimizer is None:
        return {}
    pairs = [(variable, found[id(variable)]) for variable in model.trainable_variables]
    pairs = [(variable, gradient) for variable, gradient in pairs if gradient is not None]
    everything = {id(variable): _copy(variable) for variable in model.trainable_variables}
    copies = [everything[id(variable)] for variable, _ in pairs]
    clone = _cloned(innermost(optimizer), list(everything.values()))
    outer = without_loss_scaling(optimizer)
    if isinstance(outer, LayerRates):
        clone = outer.copied_around(clone, model.trainable_variables, list(everything.values()))
    if pairs:
        clone.apply([tf.cast(gradient, variable.dtype) for variable, gradient in pairs], copies)
    return {
        id(variable): copy.value - variable.value
        for (variable, _), copy in zip(pairs, copies, strict=True)
    }


def optimizer_of(model: keras.Model) -> keras.optimizers.Optimizer | None:
    """The compiled optimizer, or None."""
    return getattr(model, "optimizer", None)


def _copy(variable):
    # tf.identity, because a keras.Variable made from a tf.Variable is that variable, not a copy.
    copy = keras.Variable(tf.identity(variable.value), dtype=variable.dtype, name=variable.name)
    copy.constraint = getattr(variable, "constraint", None)
    return copy


def _cloned(optimizer, variables):
    try:
        config = optimizer.get_config()
        # One batch is one update, and its gradients are not scaled.
        unset = {"gradient_accumulation_steps", "loss_scale_factor"} & set(config)
        # A schedule of the user's need not be registered.
        schedules = [
            type(part)
            for part in vars(optimizer).values()
            if isinstance(part, keras.optimizers.schedules.LearningRateSchedule)
        ]
        with keras.saving.custom_object_scope({kind.__name__: kind for kind in schedules}):
            clone = type(optimizer).from_config({**config, **dict.fromkeys(unset)})
    except Exception as error:
        raise ValueError(
            f"diagnose: {type(optimizer).__name__} cannot be created from its configuration "
            f"({error}). Give it get_config and from_config."
        ) from error
    clone.build(variables)
    state = optimizer.variables if optimizer.built else []
    # The sums of accumulated gradients have no counterpart.
    state = [one for one in state if "gradient_accumulator" not in one.name]
    if len(state) == len(clone.variables):
        for mine, theirs in zip(clone.variables, state, strict=True):
            mine.assign(theirs)
        # With accumulation the variable counts batches, and this number updates.
        clone.iterations.assign(optimizer.iterations)
    return clone

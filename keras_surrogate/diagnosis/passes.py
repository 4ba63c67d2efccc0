"""Forward and backward passes of one batch that leave the model as it was."""

import contextlib
import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import methods
from keras_surrogate.recording import norms


@dataclasses.dataclass(frozen=True)
class Pass:
    """What one forward and backward pass has shown.

    Attributes:
        calls: of each layer that was called, by its id and in the order of the calls' ends, a list
            of pairs: the floating tensors that went in, and those that came out.
        outputs: the floating tensors that the model returned.
        gradients: of each trainable variable, by its id; None where nothing connects it with the
            output.
        deltas: of each tensor that went into a layer, came out of one, or is among the inputs and
            outputs of the model, by its id, likewise.
        tape: that of the forward pass, persistent.
    """

    calls: dict
    outputs: tuple
    gradients: dict
    deltas: dict
    tape: tf.GradientTape

    def derives(self, tensors, sources):
        """Whether tensors depend on others, or on weights, by operations that have a derivative, be it 0."""
        found = self.tape.gradient(tensors, sources) if tensors else []
        return any(gradient is not None for gradient in found)


def run(model, x, objective, layers):
    """A `Pass` in training mode, in eager mode.

    Args:
        model: a built Keras model.
        x: tensors as the model takes them.
        objective: from the model's outputs to a scalar tensor and the factor by which it, and so
            every gradient, is too large.
        layers: whose calls are noted.
    """
    with tf.GradientTape(persistent=True) as tape, _seen(layers) as calls:
        tape.watch(_floating(x))
        outputs = model(x, training=True)
        value, factor = objective(outputs)
    variables = model.trainable_variables
    # Each once: what one layer gives, another takes.
    seen = {
        id(tensor): tensor for tensor in [*_floating(x), *_floating(outputs), *_floating(calls)]
    }
    found = tape.gradient(value, [*[variable.value for variable in variables], *seen.values()])
    found = [None if gradient is None else _dense(gradient, factor) for gradient in found]
    return Pass(
        calls,
        tuple(_floating(outputs)),
        dict(zip(map(id, variables), found, strict=False)),
        dict(zip(seen, found[len(variables) :], strict=True)),
        tape,
    )


def depends(model, x, variables):
    """Whether the outputs change when some weights change their sign; the weights are afterwards what they were."""
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
    """In training mode, with the same random numbers each time."""
    with unchanged(model):
        return _floating(model(x, training=True))


def _dense(gradient, factor):
    gradient = norms.at_least_float32(tf.convert_to_tensor(gradient))
    return gradient if factor == 1 else gradient / tf.cast(factor, gradient.dtype)


@contextlib.contextmanager
def _seen(layers):
    """While open, the calls of the layers are noted, with what goes in and what comes out."""
    calls = {}
    with methods.replaced(layers, "call", functools.partial(_noting, calls)):
        yield calls


def _noting(calls, layer, call):
    @functools.wraps(call)
    def noting(*args, **kwargs):
        outputs = call(*args, **kwargs)
        calls.setdefault(id(layer), []).append((_floating((args, kwargs)), _floating(outputs)))
        return outputs

    return noting


def _floating(structure):
    """The floating tensors in a structure that hold numbers by now: within a `tf.function` they do not."""
    return [tensor for tensor in keras.tree.flatten(structure) if _is_floating(tensor)]


def _is_floating(tensor):
    return tf.is_tensor(tensor) and hasattr(tensor, "numpy") and tensor.dtype.is_floating


def random_cotangents(outputs, seed):
    """The scalar whose gradient with respect to each example's outputs is a random vector of norm 1 / examples."""
    generator, total = np.random.default_rng(seed), 0.0
    if not _floating(outputs):
        raise ValueError(
            "diagnose: the model has no output of floating numbers, so that there are no gradients."
        )
    for output in _floating(outputs):
        draws = generator.standard_normal((output.shape[0], int(np.prod(output.shape[1:]))))
        units = (
            draws
            / np.maximum(np.linalg.norm(draws, axis=1, keepdims=True), np.finfo(float).tiny)
            / len(draws)
        )
        cotangents = tf.constant(units.reshape(output.shape), norms.at_least_float32(output).dtype)
        total += tf.reduce_sum(tf.cast(norms.at_least_float32(output) * cotangents, tf.float32))
    return total


def compiled_loss(model, x, y, outputs):
    """The loss of the train step, times what the optimizer multiplies it by, and that factor."""
    loss = model.compute_loss(x=x, y=y, y_pred=outputs)
    optimizer = optimizer_of(model)
    factor = 1.0 if optimizer is None else float(optimizer.scale_loss(tf.constant(1.0)))
    return loss * factor, factor


@contextlib.contextmanager
def unchanged(model):
    """A context after which all that is not trained has its former value: moving averages, seeds, metrics."""
    trained = set(map(id, model.trainable_variables))
    held = [
        variable
        for variable in [*model.variables, *model.metrics_variables]
        if id(variable) not in trained
    ]
    before = [(variable, tf.identity(variable.value)) for variable in held]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def updates(model, found):
    """What the compiled optimizer would add to each variable, by its id, were these gradients its next ones.

    A copy of the optimizer, with the same settings and state, is applied to copies of the
    variables. What the copy does otherwise: gradients are not accumulated over steps, and every
    variable takes part in weight decay.

    Returns:
        The changes; empty where there is no optimizer.

    Raises:
        ValueError: the optimizer cannot be made anew from its configuration.
    """
    optimizer = optimizer_of(model)
    if optimizer is None:
        return {}
    pairs = [(variable, found[id(variable)]) for variable in model.trainable_variables]
    pairs = [(variable, gradient) for variable, gradient in pairs if gradient is not None]
    everything = {id(variable): _copy(variable) for variable in model.trainable_variables}
    copies = [everything[id(variable)] for variable, _ in pairs]
    clone = _cloned(getattr(optimizer, "inner_optimizer", optimizer), list(everything.values()))
    if pairs:
        clone.apply([tf.cast(gradient, variable.dtype) for variable, gradient in pairs], copies)
    return {
        id(variable): copy.value - variable.value
        for (variable, _), copy in zip(pairs, copies, strict=True)
    }


def optimizer_of(model):
    """The compiled optimizer, or None."""
    return getattr(model, "optimizer", None)


def _copy(variable):
    # Of the value's own identity: a keras.Variable made from a tf.Variable is that variable, and
    # not its copy.
    copy = keras.Variable(tf.identity(variable.value), dtype=variable.dtype, name=variable.name)
    copy.constraint = getattr(variable, "constraint", None)
    return copy


def _cloned(optimizer, variables):
    try:
        config = optimizer.get_config()
        clone = type(optimizer).from_config({**config, "gradient_accumulation_steps": None})
    except Exception as error:
        raise ValueError(
            f"{type(optimizer).__name__} cannot be made anew from its configuration ({error}); give it get_config and "
            "from_config."
        ) from error
    clone.build(variables)
    state = optimizer.variables if optimizer.built else []
    if len(state) == len(clone.variables):
        for mine, theirs in zip(clone.variables, state, strict=True):
            mine.assign(theirs)
    return clone

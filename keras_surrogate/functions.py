"""The collection: one class per function, each a value and a slope.

A `Function` is a frozen dataclass with `value(x)` and `slope(x)`, both elementwise and in the dtype of `x`. Defining a
subclass is all there is to adding one: it enters the collection under its name in snake_case (`LeakyRelu` is
"leaky_relu"), its docstring is its row in the documentation, and the tests run over it. The `value:` and `slope:`
lines of the docstring are NumPy expressions that the tests evaluate and compare.

Every value and every slope sends NaN to NaN, and is connected to `x`, so that a second derivative is never None.
"""

import dataclasses
import difflib
import math
import re
from types import MappingProxyType

import keras
import numpy as np
import tensorflow as tf

_COLLECTION = {}


@dataclasses.dataclass(frozen=True)
class Function:
    """An elementwise function of one real variable, with the slope to use in the backward pass.

    A subclass defines `value(x)`. It should define `slope(x)`, which is otherwise found by automatic differentiation.
    Fields are parameters, declared by `positive`, `nonnegative`, `between` or `flag`.

    Attributes of the class, which let a `Surrogate` keep the output in memory instead of the input:
        keeps_sign: the value is positive exactly where `x` is.
        slope_needs_only_sign: the slope depends on nothing but whether `x` is positive.
    And `aliases`, other names under which `get` takes a parameter.
    """

    keeps_sign = False
    slope_needs_only_sign = False
    aliases = MappingProxyType({})

    def __init_subclass__(cls, collect=True):
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True)(cls)
        if collect:
            _collect(cls)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _validate(self, field)

    @classmethod
    def registered_name(cls):
        """The name in the collection: the class's name in snake_case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def value(self, x):
        raise TypeError(f"{type(self).__name__} defines no value(x).")

    def slope(self, x):
        """The derivative of `value` at `x`, by automatic differentiation."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = self.value(x)
        return tape.gradient(value, x, unconnected_gradients="zero")

    def gradient(self, upstream, x):
        """`upstream * slope(x)`; overridden where TensorFlow has one kernel for it."""
        return upstream * self.slope(x)

    def gradient_from_output(self, upstream, y):
        """`upstream * slope(x)` from `y = value(x)`; None where the output does not suffice."""
        return None

    def get_config(self):
        """A dictionary that `get` turns into an equal function."""
        return {"name": self.registered_name(), **dataclasses.asdict(self)}


def _collect(cls):
    name = cls.registered_name()
    if _COLLECTION.get(name, cls).__module__ != cls.__module__:
        raise ValueError(f"A function called {name!r} exists already ({_COLLECTION[name]}); choose another class name.")
    _COLLECTION[name] = cls


def _parameter(default, accepts, meaning):
    return dataclasses.field(default=default, metadata={"accepts": accepts, "meaning": meaning})


def positive(default):
    """A parameter in (0, inf)."""
    return _parameter(default, lambda number: number > 0, "a positive number")


def nonnegative(default):
    """A parameter in [0, inf)."""
    return _parameter(default, lambda number: number >= 0, "a number of at least 0")


def between(low, high, default):
    """A parameter in [low, high]."""
    return _parameter(default, lambda number: low <= number <= high, f"a number from {low} to {high}")


def flag(default):
    """A parameter that is True or False."""
    return _parameter(default, None, "True or False")


def real_number(number, owner, name, meaning="a finite number", accepts=lambda number: True):
    """`number` as a Python float, or a ValueError that names `owner`, `name`, what was passed and what is valid."""
    is_number = isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool)
    if not is_number or not math.isfinite(number) or not accepts(number):
        raise ValueError(f"{owner}: {name} must be {meaning}, but is {number!r}.")
    return float(number)


def _validate(function, field):
    if not field.metadata:
        return
    number, meaning, accepts = getattr(function, field.name), field.metadata["meaning"], field.metadata["accepts"]
    if accepts is not None:
        number = real_number(number, function.registered_name(), field.name, meaning, accepts)
    elif not isinstance(number, bool):
        raise ValueError(f"{function.registered_name()}: {field.name} must be {meaning}, but is {number!r}.")
    object.__setattr__(function, field.name, number)


def _finite(x):
    """`x` with the infinities moved to the largest finite numbers, where a quotient of infinities has a limit."""
    return tf.clip_by_value(x, x.dtype.min, x.dtype.max)


def _zero(x):
    """0, with NaN sent to NaN and a derivative of 0 rather than None."""
    return tf.nn.relu(-tf.abs(x))


# ------------------------------------------------------------------------------------------ rectifiers and their kin


class Linear(Function):
    """The identity; as a backward it is the straight-through estimator.

    value: x
    slope: 1
    Source: Bengio et al. 2013, arXiv:1308.3432.
    """

    keeps_sign = True
    slope_needs_only_sign = True

    def value(self, x):
        return tf.identity(x)

    def slope(self, x):
        return 1 + _zero(x)

    def gradient(self, upstream, x):
        return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=x, alpha=1.0)


class Relu(Function):
    """The rectifier. The slope at 0 is 0.

    value: maximum(x, 0)
    slope: where(x > 0, 1, 0)
    Source: Nair and Hinton 2010, ICML; as Keras.
    """

    keeps_sign = True
    slope_needs_only_sign = True

    def value(self, x):
        return tf.nn.relu(x)

    def slope(self, x):
        return tf.nn.relu(tf.sign(x))

    def gradient(self, upstream, x):
        return tf.raw_ops.ReluGrad(gradients=upstream, features=x)


class LeakyRelu(Function):
    """The rectifier with a small slope where the unit is off.

    value: where(x > 0, x, negative_slope * x)
    slope: where(x > 0, 1, negative_slope)
    Args:
        negative_slope: the slope for x <= 0, in [0, 1], default 0.2.
    Source: Maas et al. 2013, ICML workshop; default as keras.activations.leaky_relu.
    """

    keeps_sign = True
    slope_needs_only_sign = True
    negative_slope: float = between(0, 1, 0.2)

    def value(self, x):
        return tf.nn.leaky_relu(x, self.negative_slope)

    def slope(self, x):
        return tf.maximum(tf.sign(x), self.negative_slope)

    def gradient(self, upstream, x):
        return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=x, alpha=self.negative_slope)


class Elu(Function):
    """The exponential linear unit.

    value: where(x > 0, x, alpha * expm1(minimum(x, 0)))
    slope: where(x > 0, 1, alpha * exp(minimum(x, 0)))
    Args:
        alpha: minus the value at -inf, in (0, inf), default 1.
    Source: Clevert et al. 2016, arXiv:1511.07289; as Keras.
    """

    keeps_sign = True
    alpha: float = positive(1.0)

    def value(self, x):
        return tf.where(x > 0, x, self.alpha * tf.nn.elu(x))

    def slope(self, x):
        return tf.where(x > 0, tf.ones_like(x), self.alpha * tf.exp(tf.minimum(x, 0)))

    def gradient_from_output(self, upstream, y):
        return tf.raw_ops.EluGrad(gradients=upstream, outputs=y) if self.alpha == 1 else None


class Selu(Function):
    """The self-normalising exponential linear unit.

    value: 1.0507009873554805 * where(x > 0, x, 1.6732632423543772 * expm1(minimum(x, 0)))
    slope: 1.0507009873554805 * where(x >= 0, 1, 1.6732632423543772 * exp(minimum(x, 0)))
    Source: Klambauer et al. 2017, arXiv:1706.02515; as Keras.
    """

    keeps_sign = True

    def value(self, x):
        return tf.nn.selu(x)

    def slope(self, x):
        scale, alpha = 1.0507009873554805, 1.6732632423543772
        return tf.where(x >= 0, scale * tf.ones_like(x), scale * alpha * tf.exp(tf.minimum(x, 0)))

    def gradient_from_output(self, upstream, y):
        return tf.raw_ops.SeluGrad(gradients=upstream, outputs=y)


class Gelu(Function):
    """The Gaussian error linear unit, x times the normal distribution function; or its tanh approximation.

    value: x * (sigmoid(sqrt(8 / pi) * (x + 0.044715 * x**3)) if approximate else ndtr(x))
    slope: (ndtr(x) + x * exp(-(x**2) / 2) / sqrt(2 * pi)) if not approximate else
        sigmoid(sqrt(8 / pi) * (x + 0.044715 * x**3)) * (1 + x * sqrt(8 / pi) * (1 + 0.134145 * x**2)
        * (1 - sigmoid(sqrt(8 / pi) * (x + 0.044715 * x**3))))
    Args:
        approximate: True for the tanh approximation, default False.
    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415; as Keras.
    """

    approximate: bool = flag(False)

    def value(self, x):
        return tf.math.multiply_no_nan(x, self._gate(x))

    def slope(self, x):
        return self._gate(x) + tf.math.multiply_no_nan(x, self._gate_slope(x))

    def _gate(self, x):
        if self.approximate:
            return tf.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
        return tf.math.erfc(-x / math.sqrt(2)) / 2

    def _gate_slope(self, x):
        if self.approximate:
            gate, inner_slope = self._gate(x), math.sqrt(8 / math.pi) * (1 + 0.134145 * x**2)
            return tf.math.multiply_no_nan(inner_slope, gate * (1 - gate))
        return tf.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


class Silu(Function):
    """The sigmoid linear unit, also called swish.

    value: x * sigmoid(x)
    slope: sigmoid(x) * (1 + x * (1 - sigmoid(x)))
    Source: Elfwing et al. 2018, arXiv:1702.03118; as Keras.
    """

    def value(self, x):
        return tf.math.multiply_no_nan(x, tf.sigmoid(x))

    def slope(self, x):
        gate = tf.sigmoid(x)
        return gate + tf.math.multiply_no_nan(x, gate * (1 - gate))


class Bsilu(Function):
    """The bounded SiLU. Its slope peaks at 1.290 (x = 1.49 for the default) and is negative below -2.735.

    value: (x + alpha) * sigmoid(x) - alpha / 2
    slope: sigmoid(x) + (x + alpha) * sigmoid(x) * (1 - sigmoid(x))
    Args:
        alpha: the shift, in (0, inf), default 1.67.
    Source: SUGAR, Horuz et al. 2025, arXiv:2505.22074.
    """

    alpha: float = positive(1.67)

    def value(self, x):
        return tf.math.multiply_no_nan(x + self.alpha, tf.sigmoid(x)) - self.alpha / 2

    def slope(self, x):
        gate = tf.sigmoid(x)
        return gate + tf.math.multiply_no_nan(x + self.alpha, gate * (1 - gate))


class Nelu(Function):
    """The negative-slope linear unit: the value jumps at 0, and the slope is negative for x < 0.

    value: where(x > 0, x, -alpha / (1 + x**2))
    slope: where(x > 0, 1, 2 * alpha * x / (1 + x**2)**2)
    Args:
        alpha: the size of the jump at 0, in (0, inf), default 0.05.
    Source: SUGAR, Horuz et al. 2025, arXiv:2505.22074 (0.1 and 0.01 are used there).
    """

    alpha: float = positive(0.05)

    def value(self, x):
        return tf.where(x > 0, x, -self.alpha / (1 + tf.minimum(x, 0) ** 2))

    def slope(self, x):
        negative = tf.minimum(_finite(x), 0)
        denominator = 1 + negative**2
        return tf.where(x > 0, tf.ones_like(x), 2 * self.alpha * (negative / denominator) / denominator)


class Softplus(Function):
    """The smooth rectifier, whose slope is the sigmoid.

    value: logaddexp(x, 0)
    slope: sigmoid(x)
    Source: Dugas et al. 2001, NIPS; as Keras.
    """

    def value(self, x):
        return tf.nn.softplus(x)

    def slope(self, x):
        return tf.sigmoid(x)

    def gradient(self, upstream, x):
        return tf.raw_ops.SoftplusGrad(gradients=upstream, features=x)


# ------------------------------------------------------------------------------------------------- sigmoids


class Sigmoid(Function):
    """The logistic function.

    value: 1 / (1 + exp(-x))
    slope: sigmoid(x) * (1 - sigmoid(x))
    Source: as Keras.
    """

    def value(self, x):
        return tf.sigmoid(x)

    def slope(self, x):
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream, x):
        return self.gradient_from_output(upstream, tf.sigmoid(x))

    def gradient_from_output(self, upstream, y):
        return tf.raw_ops.SigmoidGrad(y=y, dy=upstream)


class FlatSpotSigmoid(Function):
    """The logistic function plus a line, so that the slope never falls below a constant.

    value: sigmoid(x) + constant * x
    slope: sigmoid(x) * (1 - sigmoid(x)) + constant
    Args:
        constant: what is added to the slope, in [0, inf), default 0.1.
    Source: Fahlman 1988, CMU-CS-88-162 (0.1); Roodschild et al. 2020, doi:10.1007/s13748-020-00218-y.
    """

    constant: float = nonnegative(0.1)

    def value(self, x):
        return tf.sigmoid(x) + self.constant * x

    def slope(self, x):
        gate = tf.sigmoid(x)
        return gate * (1 - gate) + self.constant


class Tanh(Function):
    """The hyperbolic tangent.

    value: tanh(x)
    slope: 1 - tanh(x)**2
    Source: as Keras.
    """

    keeps_sign = True

    def value(self, x):
        return tf.tanh(x)

    def slope(self, x):
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream, x):
        return self.gradient_from_output(upstream, tf.tanh(x))

    def gradient_from_output(self, upstream, y):
        return tf.raw_ops.TanhGrad(y=y, dy=upstream)


class ScaledTanh(Function):
    """The hyperbolic tangent of n x: the tanh(nx) of an old question.

    value: tanh(n * x)
    slope: n * (1 - tanh(n * x)**2)
    Args:
        n: the slope at 0, in (0, inf), default 2.
    Source: "Why not tanh(nx) against vanishing gradients?", Cross Validated.
    """

    keeps_sign = True
    n: float = positive(2.0)

    def value(self, x):
        return tf.tanh(self.n * x)

    def slope(self, x):
        return self.gradient_from_output(tf.ones_like(x), self.value(x))

    def gradient_from_output(self, upstream, y):
        return self.n * tf.raw_ops.TanhGrad(y=y, dy=upstream)


class HardTanh(Function):
    """The identity, clipped to [-1, 1]; as a backward it is the clipped straight-through estimator.

    value: clip(x, -1, 1)
    slope: where(abs(x) <= 1, 1, 0)
    Source: Courbariaux et al. 2016, arXiv:1602.02830; as Keras.
    """

    keeps_sign = True

    def value(self, x):
        return tf.clip_by_value(x, -1, 1)

    def slope(self, x):
        return 1 - tf.nn.relu(tf.sign(tf.abs(x) - 1))


class Softsign(Function):
    """A sigmoid with polynomial tails.

    value: x / (1 + abs(x))
    slope: 1 / (1 + abs(x))**2
    Source: Bergstra et al. 2009; as Keras.
    """

    keeps_sign = True

    def value(self, x):
        # tf.nn.softsign is NaN at infinity, and its gradient has no gradient: no forward mode, no second derivative.
        finite = _finite(x)
        return finite / (1 + tf.abs(finite))

    def slope(self, x):
        return 1 / tf.square(1 + tf.abs(x))


# ------------------------------------------------------------------------------------------------- steps and spikes


class Step(Function):
    """The Heaviside step.

    value: where(x == 0, at_zero, where(x > 0, 1, 0))
    slope: 0
    Args:
        at_zero: the value at 0, in [0, 1], default 1.
    Source: Heaviside; 1 at 0 is the convention of spiking networks.
    """

    at_zero: float = between(0, 1, 1.0)

    def value(self, x):
        return tf.where(x == 0, tf.cast(self.at_zero, x.dtype), tf.nn.relu(tf.sign(x)))

    def slope(self, x):
        return _zero(x)


class Sign(Function):
    """The sign.

    value: where(x == 0, at_zero, sign(x))
    slope: 0
    Args:
        at_zero: the value at 0, in [-1, 1], default 0; binarised networks use 1.
    Source: as NumPy.
    """

    at_zero: float = between(-1, 1, 0.0)

    def value(self, x):
        return tf.where(x == 0, tf.cast(self.at_zero, x.dtype), tf.sign(x))

    def slope(self, x):
        return _zero(x)


class FastSigmoid(Function):
    """Softsign of k x, over k, so that the slope at 0 is 1.

    value: x / (1 + k * abs(x))
    slope: 1 / (1 + k * abs(x))**2
    Args:
        k: the sharpness, in (0, inf), default 25; `get` also takes it as `slope`, its name in snnTorch.
    Source: SuperSpike, Zenke and Ganguli 2018, arXiv:1705.11146, in snnTorch's parametrisation.
    """

    keeps_sign = True
    aliases = MappingProxyType({"slope": "k"})
    k: float = positive(25.0)

    def value(self, x):
        scaled = _finite(self.k * x)
        return scaled / (1 + tf.abs(scaled)) / self.k

    def slope(self, x):
        return 1 / tf.square(1 + self.k * tf.abs(x))


class Atan(Function):
    """The arc tangent, from 0 to 1, with slope alpha / 2 at 0.

    value: arctan(pi * alpha * x / 2) / pi + 1 / 2
    slope: alpha / 2 / (1 + (pi * alpha * x / 2)**2)
    Args:
        alpha: twice the slope at 0, in (0, inf), default 2.
    Source: Fang et al. 2021, arXiv:2007.05785, in SpikingJelly's parametrisation.
    """

    alpha: float = positive(2.0)

    def value(self, x):
        return tf.atan(math.pi / 2 * self.alpha * x) / math.pi + 0.5

    def slope(self, x):
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x) ** 2)


# ------------------------------------------------------------------------------------------------- anything else


class FromCallable(Function, collect=False):
    """Any elementwise callable on tensors; its slope comes from automatic differentiation.

    Args:
        function: maps a floating tensor to one of the same shape and dtype, each element on its own. To be saved with
            a model it must be one of Keras's activations, or registered by
            `keras.saving.register_keras_serializable`.
    """

    function: object

    def __post_init__(self):
        try:
            elementwise = _is_elementwise(self.function)
        except Exception as error:
            raise ValueError(f"{_name_of(self.function)} fails on a float32 tensor of shape (1, 4): {error}") from error
        if not elementwise:
            raise ValueError(
                f"{_name_of(self.function)} is not elementwise (each output must depend on its own input only, and "
                "have its shape and dtype), so it has no slope to replace. Use it as a layer of its own."
            )

    def value(self, x):
        return self.function(x)

    def get_config(self):
        name = _saved_name(self.function)
        if name is None:
            raise ValueError(
                f"{_name_of(self.function)} cannot be saved, because a name to find it by is missing. Decorate it with "
                "@keras.saving.register_keras_serializable() (make a lambda a function first), then save again."
            )
        return {"name": name}


def _is_elementwise(function):
    """Whether part of an input gives that part of the output, judged on four numbers."""
    with tf.init_scope():
        x = tf.constant([[-1.5, -0.5, 0.5, 1.5]])
        whole, part = function(x), function(x[:, :2])
        if getattr(whole, "dtype", None) != x.dtype or whole.shape != x.shape or part.shape != (1, 2):
            return False
        return np.allclose(whole[:, :2], part, equal_nan=True)


def _name_of(function):
    return getattr(function, "__name__", repr(function))


def _named_callable(name):
    """The Keras activation or the registered callable of that name, else None."""
    try:
        return keras.activations.get(name)
    except ValueError:
        return keras.saving.get_registered_object(name)


def _saved_name(function):
    """The name under which `_named_callable` finds `function` again, else None."""
    candidates = (_name_of(function), keras.saving.get_registered_name(function))
    return next((name for name in candidates if _named_callable(name) is function), None)


# ------------------------------------------------------------------------------------------------- lookup


def names():
    """The names in the collection, sorted."""
    return sorted(_COLLECTION)


def is_known(name):
    """Whether `get` finds a function of that name: in the collection, in Keras, or registered with Keras."""
    return name in _COLLECTION or _named_callable(name) is not None


def get(identifier, **parameters):
    """The `Function` that `identifier` stands for.

    Args:
        identifier: a name in the collection ("softplus"), the name of a Keras activation ("mish"), a configuration
            made by `Function.get_config`, an elementwise callable on tensors, or a `Function`.
        parameters: for a name in the collection, its parameters: `get("leaky_relu", negative_slope=0.1)`.

    Raises:
        ValueError: nothing goes by that name, or a parameter is unknown or out of range.
    """
    if isinstance(identifier, str):
        return _from_name(identifier, parameters)
    if isinstance(identifier, dict) and "name" in identifier:
        return get(**{"identifier": identifier["name"], **_without_name(identifier), **parameters})
    if parameters:
        raise ValueError(f"Parameters {sorted(parameters)} go with a name, but the function given is {identifier!r}.")
    if isinstance(identifier, Function):
        return identifier
    if not callable(identifier):
        raise ValueError(f"A function must be a name, a configuration, a callable or a Function, not {identifier!r}.")
    return _from_callable(identifier)


def unknown_name(kind, name, valid):
    """The ValueError for a name that nothing goes by; it gives the three nearest valid ones, and all."""
    nearest = difflib.get_close_matches(str(name), valid, n=3, cutoff=0)
    return ValueError(
        f"No {kind} is called {name!r}. Did you mean {', '.join(map(repr, nearest))}? Known are: {', '.join(valid)}."
    )


def _from_name(name, parameters):
    if name in _COLLECTION:
        return _build(_COLLECTION[name], parameters)
    function = _named_callable(name)
    if function is None:
        raise unknown_name("function", name, names())
    if parameters:
        raise ValueError(f"{name!r} takes no parameters here, but was given {sorted(parameters)}.")
    return FromCallable(function)


def _build(cls, parameters):
    fields = [field.name for field in dataclasses.fields(cls)]
    renamed = {cls.aliases.get(name, name): value for name, value in parameters.items()}
    unknown = sorted(set(renamed) - set(fields))
    if unknown:
        raise ValueError(f"{cls.registered_name()} has no parameter {unknown}; it has {fields or 'none'}.")
    return cls(**renamed)


def _from_callable(function):
    """Keras's own activations that are in the collection are taken from there."""
    name = _saved_name(function)
    return get(name) if name in _COLLECTION else FromCallable(function)


def _without_name(config):
    return {key: value for key, value in config.items() if key != "name"}

"""A surrogate: the value of one function and the slope of another."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import compiling, functions
from keras_surrogate.checks import one_of
from keras_surrogate.custom_gradient import (
    Use,
    applied,
    gradients_are_true,
    operations_are_plain,
    with_gradient,
    with_slope,
)
from keras_surrogate.functions import FromCallable, residuals, tables
from keras_surrogate.functions.held import Held

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike


@keras.saving.register_keras_serializable(package="keras_surrogate")
@dataclasses.dataclass(frozen=True, init=False)
class Surrogate:
    """An activation with the value of `forward` and the slope of `backward`.

        y = forward.value(x)        dL/dx = scale * backward.slope(x) * dL/dy

    A backward is named by its function and not by its slope: `Surrogate("relu", "softplus")` is the
    rectifier with the sigmoid for its derivative. `Surrogate(f, f)` is the ordinary activation.
    Reverse mode, forward mode and Jacobians see the replaced derivative; second derivatives are
    derivatives of the replaced one.

    It is callable on floating tensors of any shape and serializable, so it is valid as
    `activation=` of any Keras layer: `Dense(8, activation=Surrogate("relu", "softplus"))`. The
    dictionary that `keras.saving.serialize_keras_object` makes of it is valid there too, for JSON.
    The name of a preset is not, because Keras looks up only its own names: pass
    `keras_surrogate.get("sugar_bsilu")`.

    Args:
        forward: the function of the value; anything that `functions.get` takes: a name, a
            configuration, a callable, a `Function`.
        backward: the function of the slope; the same choice. Default: `forward`.
        scale: multiplies the slope; any finite number, default 1. A negative one reverses the
            gradient.
        residual: the tensor that the backward pass keeps in memory where the slope needs the input.
            None, the default: the input. "bfloat16" or "uint8": the slope in 2 bytes or 1 (see
            `residuals` for the errors); it has no second derivative. In eager mode no memory is
            saved.
        jit_compile: "auto", the default: value and slope are compiled by XLA on their own where
            that pays, so that each takes one pass over memory. That is outside a compiled training
            step, in a graph (`tf.function`, `fit`), on a CPU, for tensors of at least 131072
            elements whose whole shape is known (`dataset.batch(32, drop_remainder=True)`), where
            they have several operations ("bsilu", "nelu", "sign"). Each new shape takes about 0.1 s
            to compile; from the 65th on none is compiled. A function made of your own callable is
            never. False compiles nothing. True compiles the slope everywhere, except where it
            comes from the output. In a compiled step none of them changes anything.

    Raises:
        ValueError: an unknown name, the name of a published pair, a parameter out of range, or
            something that is not a function, such as a layer.

    Source: Hu, Zhang and Ge 2021, doi:10.1109/ACCESS.2021.3054915, for the idea on ordinary
    activations; Bengio et al. 2013, arXiv:1308.3432, for steps.
    """

    forward: functions.Function
    backward: functions.Function
    scale: float
    residual: Literal["bfloat16", "uint8"] | None
    jit_compile: bool | Literal["auto"]

    def __init__(
        self,
        forward: FunctionLike,
        backward: FunctionLike | None = None,
        scale: float = 1.0,
        residual: Literal["bfloat16", "uint8"] | None = None,
        jit_compile: bool | Literal["auto"] = "auto",
    ) -> None:
        value_of = functions.get(forward)
        slope_of = value_of if backward is None else functions.get(backward)
        scale = functions.real_number(scale, "Surrogate", "scale")
        residual = one_of(residual, "Surrogate: residual", residuals.NAMES)
        # 1 and 0 are equal to True and False.
        if not isinstance(jit_compile, bool) and jit_compile != "auto":
            raise ValueError(
                f"Surrogate: jit_compile must be True, False or 'auto', but is {jit_compile!r}."
            )
        if residual == "uint8":
            # Raises a ValueError for a slope without bounds.
            residuals.slope_range(slope_of)

        # A frozen dataclass refuses ordinary assignment.
        object.__setattr__(self, "forward", value_of)
        object.__setattr__(self, "backward", slope_of)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "residual", residual)
        object.__setattr__(self, "jit_compile", jit_compile)

    @overload
    def __call__(self, x: keras.KerasTensor) -> keras.KerasTensor: ...

    @overload
    def __call__(self, x: Any) -> tf.Tensor: ...

    def __call__(self, x: Any) -> Any:
        """The activation of `x`, a floating tensor or array of any shape, or a `KerasTensor`.

        Raises:
            ValueError: `x` is not floating, or is ragged or sparse.
        """
        if isinstance(x, keras.KerasTensor):
            return keras.layers.Activation(self)(x)
        return applied(Use(_floating_tensor(x), self._usual, self._smooth, self))

    def _usual(self, x: tf.Tensor) -> tf.Tensor:
        pair = self._read()

        def evaluate(x):
            return pair._evaluate(x, pair._value(x))

        if operations_are_plain():
            return with_slope(x, pair._value, lambda x: evaluate(x)[1](tf.ones_like(x)))
        return with_gradient(x, evaluate, pair._primitive)

    def _smooth(self, x: tf.Tensor) -> tf.Tensor:
        """The value within `smooth_forward`, with its own gradient."""
        factor, _ = self._smooth_line
        function = self._smooth_function

        def evaluate(x):
            return self.smooth_value(x), lambda upstream: function.gradient(factor * upstream, x)

        return with_gradient(x, evaluate, self.smooth_value)

    def smooth_value(self, x: tf.Tensor) -> tf.Tensor:
        """The value within `smooth_forward`: `factor * backward.value(x) + shift`."""
        factor, shift = self._smooth_line
        return factor * self._smooth_function.value(x) + shift

    def smooth_slope(self, x: tf.Tensor) -> tf.Tensor:
        """The slope of `smooth_value`."""
        factor, _ = self._smooth_line
        return factor * self._smooth_function.slope(x)

    @property
    def _smooth_function(self) -> functions.Function:
        if isinstance(self.backward, Held):
            return self.backward.function
        return self.backward

    @functools.cached_property
    def _smooth_line(self) -> tuple[float, float]:
        """The factor and the shift of `smooth_value`; see `smooth_forward`."""
        function = self._smooth_function
        if self.forward == function:
            return 1.0, 0.0
        ends = tables.limits(self.forward)
        own = tables.limits(function)
        if ends is None:
            return self.scale, 0.0
        if own is None:
            # The value at 0 becomes the middle of the forward's values on both sides of 0.
            middle, _ = tables.tabulated(self.forward, np.array([-1e-6, 1e-6]))
            at_zero, _ = tables.tabulated(function, np.zeros(1))
            return self.scale, float(middle.mean() - self.scale * at_zero[0])
        factor = (ends[1] - ends[0]) / (own[1] - own[0])
        return factor, ends[0] - factor * own[0]

    def _read(self) -> Surrogate:
        """The surrogate of this call: with the present factor where calibration holds one."""
        if isinstance(self.backward, Held):
            return dataclasses.replace(self, backward=self.backward.read())
        return self

    def blended(self, x: tf.Tensor, blend: float | tf.Tensor) -> tf.Tensor:
        """The same value with slope `blend` * surrogate + (1 - `blend`) * true.

        Args:
            x: a floating tensor of any shape.
            blend: the share of the surrogate, from 0 to 1; a number or a scalar tensor.
        """
        x = _floating_tensor(x)
        pair = self._read()
        true = self.true()
        blend = tf.cast(blend, x.dtype)

        def smooth(x):
            return blend * self._smooth(x) + (1 - blend) * true._usual(x)

        def evaluate(x):
            # The true slope may come from the output, and then needs its derivative.
            y, gradient = pair._evaluate(x, pair.forward.value(x))

            def blended_gradient(upstream):
                own = gradient(upstream)
                return blend * own + (1 - blend) * true._gradient(upstream, x, y)

            return y, blended_gradient

        def primitive(x):
            return blend * pair._primitive(x) + (1 - blend) * true._primitive(x)

        def usual(x):
            return with_gradient(x, evaluate, primitive)

        return applied(Use(x, usual, smooth, self, blended=True))

    def _evaluate(
        self, x: tf.Tensor, y: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        """The value `y`, and the function from the gradient of it to the gradient of `x`."""
        if self.residual and not self._needs_only_output:
            slope = residuals.compressed(self.residual, self.backward, x)
            return y, lambda upstream: self._scaled(upstream) * slope(upstream)
        return y, lambda upstream: self._gradient(upstream, x, y)

    def _value(self, x: tf.Tensor) -> tf.Tensor:
        # A compiled value has no derivative. A slope from the output needs one for its own
        # derivative, and the true gradient is one.
        needs_derivative = gradients_are_true() or self._needs_only_output
        if not needs_derivative and self._compiles(self.forward, "value", x):
            # Without stop_gradient a tape would have all intermediate results kept.
            return compiling.hinted(self.forward, "value", shared=False)(tf.stop_gradient(x))
        return self.forward.value(x)

    def _gradient(self, upstream: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """`upstream` times the scaled slope."""
        # From the output where that suffices, so that the input need not be kept.
        if self._needs_only_output:
            method = "_gradient_from_output"
            arguments = (upstream, y)
        else:
            method = "_gradient_from_input"
            arguments = (upstream, x)
        if self.jit_compile is True and method == "_gradient_from_input":
            return compiling.required(self, method)(*arguments)
        if self._compiles(self, method, *arguments):
            return compiling.hinted(self, method, shared=True)(*arguments)
        return getattr(self, method)(*arguments)

    def _gradient_from_input(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return self.backward.gradient(self._scaled(upstream), x)

    def _gradient_from_output(self, upstream: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return self.backward.gradient_from_output(self._scaled(upstream), y, of=self.forward)

    @functools.cached_property
    def _needs_only_output(self) -> bool:
        """Tell if the slope can be computed from the output of `forward`."""
        # This depends on the functions only, so that any number will do.
        with tf.init_scope():
            zero = tf.zeros([])
            return self.backward.gradient_from_output(zero, zero, of=self.forward) is not None

    def _has_callable(self) -> bool:
        return any(isinstance(part, FromCallable) for part in (self.forward, self.backward))

    def _compiles(self, owner: Any, method: str, *arguments: tf.Tensor) -> bool:
        """Tell if a method is compiled by itself because that pays."""
        # A callable may depend on more than its input, so that no trace of it can be kept.
        if self.jit_compile != "auto" or self._has_callable():
            return False
        return compiling.pays(owner, method, *arguments)

    def _primitive(self, x: tf.Tensor) -> tf.Tensor:
        return self._scaled(self.backward.value(x))

    def _scaled(self, tensor: tf.Tensor) -> tf.Tensor:
        return tensor if self.scale == 1 else self.scale * tensor

    @property
    def slope_title(self) -> str:
        """The name of the slope in tables and pictures: "tanh" or "4 * tanh"."""
        if self.scale == 1:
            return self.backward.title
        return f"{self.scale:g} * {self.backward.title}"

    @property
    def title(self) -> str:
        """The name in tables and pictures: "sigmoid with the slope of tanh", or "sigmoid"."""
        if self.scale == 1 and self.backward == self.forward:
            return self.forward.title
        return f"{self.forward.title} with the slope of {self.slope_title}"

    def true(self) -> Surrogate:
        """The ordinary activation with the same value: `Surrogate(forward, forward)`."""
        return Surrogate(self.forward, jit_compile=self.jit_compile)

    def scaled(self, factor: float) -> Surrogate:
        """The same surrogate with its slope multiplied by `factor`, any finite number."""
        factor = functions.real_number(factor, "Surrogate", "scale")
        return dataclasses.replace(self, scale=self.scale * factor)

    def get_config(self) -> dict[str, Any]:
        """A dictionary of plain values that `from_config` turns into an equal surrogate."""
        if isinstance(self.backward, Held):
            return self.backward.gain.released().get_config()
        return {
            "forward": self.forward.get_config(),
            "backward": self.backward.get_config(),
            "scale": self.scale,
            "residual": self.residual,
            "jit_compile": self.jit_compile,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Surrogate:
        """The surrogate of a configuration made by `get_config`."""
        return cls(**config)


def _floating_tensor(x: Any) -> tf.Tensor:
    """`x` as a dense floating tensor; a ValueError for integers, ragged and sparse tensors."""
    if isinstance(x, tf.RaggedTensor | tf.SparseTensor):
        raise ValueError(
            f"An activation needs a dense tensor, but got a {type(x).__name__}. For ragged values "
            "use tf.ragged.map_flat_values(activation, x); make a sparse tensor dense by "
            "tf.sparse.to_dense."
        )
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        raise ValueError(
            f"An activation needs floating numbers, but got {x.dtype.name}. Convert them by "
            "tf.cast."
        )
    return x

"""`SurrogateWeights`: any Keras layer with surrogates on its weights."""

from __future__ import annotations

import fnmatch
import functools
import inspect
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import presets
from keras_surrogate.checks import one_of
from keras_surrogate.custom_gradient import with_gradient
from keras_surrogate.layers import weight_scales
from keras_surrogate.layers.within import children, everything_within
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike

# The ends of the names of weights that are replaced by default.
_KERNELS = ("*kernel", "embeddings")

# From the id of a variable to the layer that replaces it. While that layer exists, so does the
# variable, so that no other object has this id.
_REPLACED: weakref.WeakValueDictionary[int, SurrogateWeights] = weakref.WeakValueDictionary()


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogateWeights(keras.layers.Wrapper):
    """Any Keras layer that computes with `surrogate(weight)` in place of its weights.

        SurrogateWeights(keras.layers.Dense(64), "ste_sign")                   binary weights
        SurrogateWeights(keras.layers.Conv2D(32, 3), "ste_sign", scale="mean_abs")
        SurrogateWeights(keras.layers.LSTM(32), "ste_sign", weights="recurrent_kernel")

    The float ("latent") weights remain the variables of the wrapped layer. The optimizer changes
    them by the gradient that passes the surrogate's slope; regularizers and constraints apply to
    them. `conversion.strip` makes a plain layer that holds the values.

    The scale of a weight w is one of

        None            surrogate(w)
        "mean_abs"      mean(abs(w)) * surrogate(w)
        "max_abs"       m * surrogate(w / m) with m = max(abs(w))
        "least_error"   the same with m = min(max(abs(w)) / top, r * mean(abs(w)))
        "learned"       step * level, where the nearest level is that of unit * w / step

    Mean and maximum are those of each output channel, or of the whole weight with `per="tensor"`,
    and constants in the backward pass. The largest level is `top`, and r is the
    number with which normal weights are rounded with the least squared error: 1 for a sign, 1.534
    for three levels from -1 to 1, 2.447 for seven. With so few levels the maximum would round most
    weights to 0. A learned step is one trainable number for each weight. It starts at
    2 * mean(abs(w)) / sqrt(Q), where Q is the number of positive levels, and its gradient is
    divided by sqrt(Q * size of w). As in the paper, the slope should be 1 within the range of
    the levels and 0 beyond.

    Within a `true_gradients` context the surrogate has its true slope. Masks, `training`, losses,
    random seeds, moving statistics and the dtype are those of the wrapped layer.

    Args:
        layer: a Keras layer, built or not. A built one keeps its weights. Models are layers too.
        surrogate: anything that `keras_surrogate.get` takes, such as "ste_sign".
        weights: the weights to replace: the end of their path within the layer, by names or
            attributes, such as "kernel" or "query/kernel"; a pattern such as "*_kernel"; or several
            of these. Default None: all kernels and embeddings, that is, weights whose names end in
            "kernel" or are "embeddings".
        scale: None, the default, "mean_abs", "max_abs", "least_error" or "learned".
        per: "channel", the default, or "tensor": what has a mean or maximum of its own.
        kwargs: `name`, default that of the wrapped layer, and `trainable`. The dtype is that of the
            wrapped layer, and the surrogate is computed in the dtype of its variables.

    Input and output: those of the wrapped layer.

    Raises:
        ValueError: `layer` is not a Keras layer or replaces its weights already; an unknown
            surrogate or scale; `scale="learned"` or "least_error" with a forward that has no
            levels; a name that no weight has; a layer that assigns to a weight itself, as
            SpectralNormalization does.

    Source: Courbariaux et al. 2015, arXiv:1511.00363, for binary weights; XNOR-Net, Rastegari et
    al. 2016, arXiv:1603.05279, and Bi-Real Net, Liu et al. 2018, arXiv:1808.00278, for "mean_abs";
    LSQ, Esser et al. 2020, arXiv:1902.08153, for "learned"; Max 1960,
    doi:10.1109/TIT.1960.1057548, for "least_error".
    """

    layer: keras.layers.Layer
    surrogate: Surrogate

    def __init__(
        self,
        layer: keras.layers.Layer,
        surrogate: SurrogateLike,
        weights: str | Sequence[str] | None = None,
        scale: weight_scales.ScaleName | None = None,
        per: Literal["channel", "tensor"] = "channel",
        **kwargs: Any,
    ) -> None:
        _check_layer(layer)
        if "dtype" in kwargs:
            raise ValueError(
                "SurrogateWeights: the dtype is that of the wrapped layer. Pass it there, as in "
                'SurrogateWeights(keras.layers.Dense(8, dtype="mixed_float16"), "ste_sign").'
            )
        if "go_backwards" in kwargs:
            raise ValueError(
                "SurrogateWeights: Bidirectional copies the layer that it wraps, which a wrapper "
                "of its weights does not allow. Wrap the whole: "
                "SurrogateWeights(keras.layers.Bidirectional(keras.layers.LSTM(8)), ...)."
            )
        # Keras reads the arguments of `call` from its signature, which is that of the wrapped
        # layer. Not with setattr, because Keras's layers track what is set.
        call = functools.partial(type(self).call, self)
        vars(call)["__signature__"] = inspect.signature(layer.call)
        vars(self)["call"] = call
        kwargs.setdefault("name", layer.name)
        # Without `autocast` and in the dtype of the variables, because the surrogate needs the
        # latent weights in full precision. The wrapped layer casts inputs and weights itself.
        super().__init__(layer, autocast=False, dtype=layer.variable_dtype, **kwargs)
        if not self.trainable:
            # Keras freezes the layers within only where `trainable` is set later.
            layer.trainable = False
        self.surrogate = presets.get(surrogate)
        self.scale = one_of(scale, "SurrogateWeights: scale", weight_scales.SCALES)
        self.per = one_of(per, "SurrogateWeights: per", ("channel", "tensor"))
        self._patterns = _patterns(weights)
        self._steps: dict[str, keras.Variable] = {}
        # `compute_mask` asks the wrapped layer.
        self.supports_masking = True
        if self.scale in ("learned", "least_error") and self.levels is None:
            raise ValueError(
                f'SurrogateWeights: scale="{self.scale}" needs a forward of few levels, such as a '
                f"sign, but {self.surrogate.forward.title} has no finite number of levels."
            )
        if self.scale == "least_error":
            weight_scales.normal_reach(self.surrogate.forward)
        if layer.built and type(layer).build is keras.layers.Layer.build and not layer.weights:
            # Keras marks such a layer as built when it is loaded, but only a call builds it.
            layer.built = False
        if layer.built:
            self._replaced()

    @property
    def levels(self) -> tuple[float, ...] | None:
        """The values of the surrogate's forward, without the scale; None if they are not few."""
        return weight_scales.levels_of(self.surrogate.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.layer.built:
            # By a symbolic call, because layers without a `build` method are built only by calls.
            arguments = keras.tree.map_structure(_symbolic, (args, kwargs))
            with keras.name_scope(self.name):
                self.layer(*arguments[0], **arguments[1])
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        self._build_wrapped({"input_shape": input_shape})
        replaced = self._replaced()
        if self.scale == "learned":
            for name, variable in replaced.items():
                self._steps[name] = self._new_step(name, variable)
        for variable in replaced.values():
            _REPLACED[id(variable)] = self

    def _new_step(self, name: str, variable: keras.Variable) -> keras.Variable:
        def initializer(shape, dtype=None):
            return tf.cast(weight_scales.first_step(variable.value, self.levels), dtype)

        name = f"{name.replace('/', '_')}_step"
        return self.add_weight((), initializer, constraint=_Positive(), name=name)

    def get_build_config(self) -> dict[str, Any]:
        return {"layer": self.layer.get_build_config()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        if not config["layer"]:
            return
        with keras.name_scope(self.name):
            self._build_wrapped(config["layer"])
        self.build()

    def _build_wrapped(self, config: dict[str, Any]) -> None:
        if self.layer.built:
            return
        if type(self.layer).build is keras.layers.Layer.build:
            # Without a `build` method, layers are built by calls.
            self.layer(keras.KerasTensor(config["input_shape"]))
        else:
            self.layer.build_from_config(config)
        self.layer.built = True

    def _replaced(self) -> dict[str, keras.Variable]:
        """The weights that are replaced, by their paths within the wrapped layer."""
        floating = {
            name: weight
            for name, weight in _named_weights(self.layer)
            if tf.as_dtype(weight.dtype).is_floating
        }
        held_as = _attribute_paths(self.layer)
        asked = _KERNELS if self._patterns is None else self._patterns
        fitting = {
            pattern: [
                name
                for name, weight in floating.items()
                if _fits(name, pattern) or _fits(held_as.get(id(weight), name), pattern)
            ]
            for pattern in asked
        }
        chosen = {name for names in fitting.values() for name in names}
        found = {name: weight for name, weight in floating.items() if name in chosen}
        unknown = [pattern for pattern in self._patterns or () if not fitting[pattern]]
        if unknown or not found:
            raise _no_such_weights(self.layer, unknown, floating)
        return found

    def effective_weights(self) -> dict[str, tf.Tensor]:
        """The values that the layer computes with, by the weight's path within the wrapped layer.

        Raises:
            ValueError: the layer is not built.
        """
        self._check_built()
        return {name: self._value(name, weight) for name, weight in self._replaced().items()}

    def assign_effective_weights(self, plain: keras.layers.Layer) -> None:
        """Give a plain layer the values that this layer computes with.

        Args:
            plain: a built layer like the wrapped one.
        """
        names = dict(_named_weights(self.layer))
        values = self.effective_weights()
        for name, weight in zip(names, plain.weights, strict=True):
            if name in values:
                weight.assign(values[name])

    @property
    def own_weights(self) -> list[keras.Variable]:
        """The weights that the wrapped layer does not have: the learned steps."""
        return list(self._steps.values())

    def weight_levels(self, before: Mapping[int, tf.Tensor] | None = None) -> dict[str, tf.Tensor]:
        """The levels of the weights: the values of the surrogate's forward, without the scale.

        Args:
            before: from the ids of variables to tensors that stand for their values; default None,
                the present values.

        Returns:
            A dictionary from the weight's path within the wrapped layer to its levels.

        Raises:
            ValueError: the layer is not built.
        """
        self._check_built()
        variables = [*self.layer.variables, *self._steps.values()]
        mapping = [(one, before[id(one)]) for one in variables if id(one) in (before or {})]
        with keras.StatelessScope(mapping):
            return {
                name: self.surrogate.forward.value(self._argument_and_factor(name, weight)[0])
                for name, weight in self._replaced().items()
            }

    def axes_of_a_scale(self, name: str) -> tuple[int, ...]:
        """The axes of a weight over which one mean or maximum extends.

        Args:
            name: the weight's path within the wrapped layer.
        """
        if self.per == "channel":
            return self.axes_of_a_channel(name)
        return tuple(range(len(dict(_named_weights(self.layer))[name].shape)))

    def axes_of_a_channel(self, name: str) -> tuple[int, ...]:
        """The axes of a weight over which an output channel extends: all but the channels' own.

        Args:
            name: the weight's path within the wrapped layer.
        """
        weight = dict(_named_weights(self.layer))[name]
        channels = weight_scales.channel_axes(_owner(self.layer, weight), weight)
        return tuple(axis for axis in range(len(weight.shape)) if axis not in channels)

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(
                f"{self.name} has no weights yet. Call it on data first, or give the model an "
                "Input."
            )

    def _value(self, name: str, weight: keras.Variable) -> tf.Tensor:
        argument, factor = self._argument_and_factor(name, weight)
        value = self.surrogate(argument)
        if factor is not None:
            value = factor * value
        return _with_dense_gradient(value)

    def _argument_and_factor(
        self, name: str, weight: keras.Variable
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        return self._scale_of(name, weight).argument_and_factor(tf.convert_to_tensor(weight.value))

    def _scale_of(self, name: str, weight: keras.Variable) -> weight_scales.Scale:
        if self.scale is None:
            return weight_scales.Unscaled()
        if self.scale == "learned":
            levels = cast("tuple[float, ...]", self.levels)
            size = int(np.prod(weight.shape))
            gradient_scale = (size * weight_scales.positive_levels(levels)) ** -0.5
            unit = weight_scales.unit_of(levels)
            return weight_scales.Learned(self._steps[name], unit, gradient_scale)
        axes = self.axes_of_a_scale(name)
        if self.scale == "mean_abs":
            return weight_scales.MeanAbs(axes)
        if self.scale == "least_error":
            top = max(map(abs, cast("tuple[float, ...]", self.levels)))
            return weight_scales.LeastError(
                axes, top, weight_scales.normal_reach(self.surrogate.forward)
            )
        return weight_scales.MaxAbs(axes)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        variables = self.layer.variables
        effective = self.effective_weights()
        values = {id(weight): effective[name] for name, weight in self._replaced().items()}
        # All variables, because a scope within another one hides the values of the outer one.
        mapping = [(one, values.get(id(one), one.value)) for one in variables]
        scope = _NotingScope(mapping, collect_losses=True)
        with scope:
            outputs = self.layer(*args, **kwargs)
        for variable in scope.assigned.values():
            if id(variable) in values:
                raise _assigned(self.layer, variable)
            variable.assign(scope.get_current_value(variable))
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        if not self.layer.supports_masking:
            return None
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["dtype"]
        return {
            **config,
            "surrogate": self.surrogate.get_config(),
            "weights": None if self._patterns is None else list(self._patterns),
            "scale": self.scale,
            "per": self.per,
        }


class _NotingScope(keras.StatelessScope):
    """A scope that notes what is assigned, also to variables that no layer lists.

    Such are the states of a stateful recurrent layer.

    Attributes:
        assigned: each variable that was assigned to, by its id.
    """

    assigned: dict[int, keras.Variable]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.assigned = {}

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable, _ = update
        self.assigned[id(variable)] = variable
        super().add_update(update)


class _Positive(keras.constraints.Constraint):
    """Keeps steps from 0, by which weights are divided."""

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return tf.maximum(step, weight_scales.least_step(tf.as_dtype(step.dtype).name))


def replacing(variable: keras.Variable) -> SurrogateWeights | None:
    """The layer that computes with a surrogate of this variable, or None."""
    layer = _REPLACED.get(id(variable))
    if layer is None or not any(one is variable for one in layer.layer.variables):
        return None
    return layer


def name_within(layer: SurrogateWeights, variable: keras.Variable) -> str:
    """The path of a variable within the wrapped layer, a key of `effective_weights`."""
    return next(name for name, one in _named_weights(layer.layer) if one is variable)


def _check_layer(layer: object) -> None:
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(
            f"SurrogateWeights needs a Keras layer, but got {layer!r}. For a single tensor, call "
            'the surrogate: ks.get("ste_sign")(kernel).'
        )
    inside = [
        one for one in (layer, *everything_within(layer)) if isinstance(one, SurrogateWeights)
    ]
    if inside:
        raise ValueError(
            f"SurrogateWeights: {inside[0].name} replaces its weights already. Wrap the layer "
            "within it, or the other layers one by one."
        )


def _patterns(weights: object) -> tuple[str, ...] | None:
    if weights is None:
        return None
    asked = [weights] if isinstance(weights, str) else weights
    if not isinstance(asked, Iterable):
        asked = [asked]
    patterns = tuple(asked)
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(
            "SurrogateWeights: weights must be a name such as 'kernel', or several, but is "
            f"{weights!r}."
        )
    return patterns


def _symbolic(argument: Any) -> Any:
    """A symbolic tensor in place of a tensor or array; other arguments unchanged."""
    if not hasattr(argument, "shape") or not hasattr(argument, "dtype"):
        return argument
    dtype = keras.backend.standardize_dtype(argument.dtype)
    return keras.KerasTensor(argument.shape, dtype)


def _named_weights(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """The weights of a layer with their paths within it, which are unique."""
    taken: set[str] = set()
    for weight in layer.weights:
        name = weight.path.removeprefix(f"{layer.path}/")
        while name in taken:
            name += "_"
        taken.add(name)
        yield name, weight


def _attribute_paths(layer: keras.layers.Layer, prefix: str = "") -> dict[int, str]:
    """The attributes that lead to each weight, "gate/kernel", by the weight's id.

    Unlike names that Keras gives ("dense_3/kernel"), they are the same after loading.
    """
    paths = {
        id(value): prefix + value.name
        for value in vars(layer).values()
        if isinstance(value, keras.Variable)
    }
    for key, child in children(layer).items():
        paths = {**_attribute_paths(child, f"{prefix}{key}/"), **paths}
    return paths


def _fits(name: str, pattern: str) -> bool:
    """True if a pattern fits a path or an end of it."""
    parts = name.split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    return any(fnmatch.fnmatchcase(end, pattern) for end in ends)


def _no_such_weights(
    layer: keras.layers.Layer, unknown: Sequence[str], weights: Iterable[str]
) -> ValueError:
    listed = ", ".join(map(repr, weights)) or "none"
    if unknown:
        asked = ", ".join(map(repr, unknown))
        return ValueError(
            f"SurrogateWeights: {layer.name} has no weight {asked}. Its weights: {listed}."
        )
    return ValueError(
        f"SurrogateWeights: {layer.name} ({type(layer).__name__}) has no kernel and no embeddings. "
        f"Its weights: {listed}. Name those to replace by `weights`."
    )


def _assigned(layer: keras.layers.Layer, variable: keras.Variable) -> ValueError:
    return ValueError(
        f"SurrogateWeights: {layer.name} ({type(layer).__name__}) assigns to its own "
        f"{variable.name} when it is called, so that the value of the surrogate would be lost. "
        "Wrap the layer within it, or leave this weight out by `weights`."
    )


def _owner(layer: keras.layers.Layer, weight: keras.Variable) -> keras.layers.Layer:
    """The layer that holds a weight as an attribute; by default the given layer."""
    for one in (layer, *everything_within(layer)):
        if any(value is weight for value in vars(one).values()):
            return one
    return layer


def _with_dense_gradient(value: tf.Tensor) -> tf.Tensor:
    """The same value. Its gradient becomes dense, which an Embedding gives as slices."""
    return with_gradient(value, lambda x: (tf.identity(x), tf.convert_to_tensor), tf.identity)

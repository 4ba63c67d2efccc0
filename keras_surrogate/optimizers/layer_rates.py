"""A factor of the learning rate for each layer, around any Keras optimizer."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from keras_surrogate import functions, methods

# A name, pattern or place, and its factor.
_Rule: TypeAlias = tuple["str | int", float]
# The keys are strings and integers; type checkers would not take {"a": 1.0} for such a dictionary.
Rates: TypeAlias = "Mapping[Any, float] | float"


@dataclasses.dataclass
class _State:
    """What is known of variables, by the ids of their TensorFlow variables, one on each replica.

    It is an object of its own because a checkpoint takes no dictionary with such keys.

    Attributes:
        factors: the factor of each variable.
        before: the value of a variable before weight decay, from there to its update.
    """

    factors: dict[int, float] = dataclasses.field(default_factory=dict)
    before: dict[int, tf.Tensor] = dataclasses.field(default_factory=dict)


@keras.saving.register_keras_serializable(package="keras_surrogate")
class LayerRates(keras.optimizers.Optimizer):
    """Another optimizer whose learning rate is multiplied by a factor for each layer.

        learning rate of a layer = learning_rate * factor

        model.compile(LayerRates("adam", {"encoder": 0.1, "*norm*": 0}), loss)
        model.compile(LayerRates(keras.optimizers.SGD(0.1), 0.9), loss)

    Each variable is trained as if it had an optimizer of its own with this rate:

    * **Weight decay** is multiplied too, because Keras multiplies it by the learning rate. (A
      regularizer of a layer is a part of the loss, and so of the gradient.)
    * **Moving averages of the weights** (`use_ema`) average what is trained. Momenta are those of
      the gradient, and have no factor.
    * **Clipping** acts on the gradient, before the factor. A global norm is that of all layers that
      are trained.
    * **Gradient accumulation** is that of the inner optimizer.
    * **A factor of 0 freezes** a layer: its weights and its momenta do not change, and it is not a
      part of any global norm. This is `trainable = False`, except that the layer's gradient is
      computed and can be logged, and that BatchNormalization keeps using its batch.
    * **Loss scaling** belongs outside: `LossScaleOptimizer(LayerRates("adam", rates))`, which Keras
      does by itself for "mixed_float16".

    All settings are those of the inner optimizer. `learning_rate` and `iterations` are its
    attributes, so that schedules and callbacks act on it. A factor has a smaller effect where an
    optimizer limits the rate itself (Adafactor with `relative_step`), and none on the signs that
    `Bop` flips.

    `callbacks.GradientNormLogger` records gradients without the factor, "raw" and "applied", and
    "update_ratio" with it.

    Args:
        optimizer: a Keras optimizer, its name or its configuration.
        rates: from layers to factors of at least 0. A key is

            a name or a pattern ("conv*", "encoder/*", "*/bias"), which is compared with each part
            of a variable's path in Keras. So "encoder" fits every variable of the layers within
            "encoder", and "encoder/dense" and "encoder/dense/kernel" fit as well;

            an integer, the place of a layer in `model.trainable_variables`: 0 is the first layer
            with trainable weights, -1 the last. A layer within another one counts by itself.

            Of several keys that fit, the last one counts. Other layers have the factor 1.

            Or a positive number: the factor is rates ** k for the layer that is k layers before the
            last one, as in layer-wise learning-rate decay.
        name: default "layer_rates".

    Attributes:
        inner_optimizer: the optimizer that trains.
        rates: the argument.

    Raises:
        TypeError: `optimizer` is not a Keras optimizer, or is a `LossScaleOptimizer`.
        ValueError: a factor is negative or not finite; no layer; at the first step (or when a built
            model is loaded), a key that fits no layer.

    Source: Howard and Ruder 2018, arXiv:1801.06146, for rates that decay over the layers.
    """

    inner_optimizer: keras.optimizers.Optimizer

    def __init__(
        self,
        optimizer: str | dict[str, Any] | keras.optimizers.Optimizer,
        rates: Rates,
        name: str = "layer_rates",
    ) -> None:
        inner = _checked_optimizer(optimizer)
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner
        self._rules = _checked_rates(rates)
        self._order: list[keras.Variable] = []
        self._state = _State()
        for one in _every_optimizer(inner):
            methods.replace(one, "update_step", self._multiplying)

    @property
    def rates(self) -> dict[str | int, float] | float:
        if isinstance(self._rules, float):
            return self._rules
        return dict(self._rules)

    def factor(self, variable: keras.Variable) -> float:
        """The factor of a variable's learning rate.

        Raises:
            ValueError: the optimizer is not built, or was built without this variable.
        """
        known = self._state.factors.get(id(_parts(variable)[0]))
        if known is None:
            raise ValueError(
                f"LayerRates: it was not built with {variable.path}. Call "
                "optimizer.build(model.trainable_variables) first."
            )
        return known

    def copied_around(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
        copies: Sequence[keras.Variable],
    ) -> LayerRates:
        """These rates around another optimizer, which trains copies of variables.

        Raises:
            ValueError: as in the constructor.
        """
        copy = LayerRates(optimizer, {"*": 1.0})
        copy.build(copies)
        copy._keep(copies, _factors(self._rules, [_path(one) for one in variables]))
        return copy

    def passes_on(self, variable: keras.Variable) -> bool:
        """True if the inner optimizer trains a variable."""
        return self.factor(variable) != 0

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        self._keep(variables, _factors(self._rules, [_path(one) for one in variables]))
        self._order = list(variables)
        self.inner_optimizer.build(variables)
        super().build(variables)

    def _keep(self, variables: Sequence[keras.Variable], factors: Sequence[float]) -> None:
        for one, factor in zip(variables, factors, strict=True):
            self._state.factors.update({id(part): factor for part in _parts(one)})

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        if trainable_variables is None:
            trainable_variables = self._order
        self.build(list(trainable_variables))
        pairs = zip(grads, trainable_variables, strict=True)
        trained = [pair for pair in pairs if self.passes_on(pair[1])]
        if not trained:
            raise ValueError(
                "LayerRates: the factor of every layer is 0, so that nothing is trained."
            )
        for gradient, variable in trained:
            if gradient is not None and self._rescales_decay(variable):
                value = tf.identity(variable.value)
                self._state.before.update({id(part): value for part in _parts(variable)})
        self.inner_optimizer.apply(*zip(*trained, strict=True))

    def _rescales_decay(self, variable: keras.Variable) -> bool:
        inner = _every_optimizer(self.inner_optimizer)
        decays = any(
            one.weight_decay or getattr(one, "adam_weight_decay", None)  # The latter is Muon's.
            for one in inner
        )
        return decays and self.factor(variable) != 1

    def _multiplying(
        self, optimizer: keras.optimizers.Optimizer, update_step: Callable[..., None]
    ) -> Callable[..., None]:
        """An `update_step` whose learning rate has the factor of its variable."""

        def multiplied(gradient: Any, variable: Any, learning_rate: Any) -> None:
            factor = self._state.factors.get(id(variable), 1.0)
            before = self._state.before.pop(id(variable), None)
            if before is not None:
                # Keras has subtracted learning_rate * decay * weight, without the factor.
                decay = tf.convert_to_tensor(variable) - before
                optimizer.assign(variable, before + factor * decay)
            if factor != 1:
                learning_rate = learning_rate * factor
            update_step(gradient, variable, learning_rate)

        multiplied.has_rates = True
        return multiplied

    @property
    def variables(self) -> list[keras.Variable]:
        return [*self.own_variables, *self.inner_optimizer.variables]

    @property
    def own_variables(self) -> list[keras.Variable]:
        """The variables that the inner optimizer does not have."""
        return list(super().variables)

    @property
    def iterations(self) -> Any:
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    def scale_loss(self, loss: Any) -> Any:
        return self.inner_optimizer.scale_loss(loss)

    @property
    def loss_scale_factor(self) -> float | None:
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: float | None) -> None:
        # Keras's constructor sets it too, before there is an inner optimizer.
        inner = vars(self).get("inner_optimizer")
        if inner is not None:
            inner.loss_scale_factor = factor

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        # Pairs, because JSON would make a string of an integer that is a key.
        rules = (
            self._rules if isinstance(self._rules, float) else [list(one) for one in self._rules]
        )
        return {
            "optimizer": keras.optimizers.serialize(self.inner_optimizer),
            "rates": rules,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> LayerRates:
        rates = config["rates"]
        return cls(**{**config, "rates": dict(rates) if isinstance(rates, list) else rates})


def _checked_optimizer(optimizer: object) -> keras.optimizers.Optimizer:
    if isinstance(optimizer, str | dict):
        optimizer = keras.optimizers.get(optimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "LayerRates: optimizer must be a Keras optimizer or its name, such as "
            f'keras.optimizers.Adam(1e-3) or "adam", but is {optimizer!r}.'
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise TypeError(
            "LayerRates: put the loss scaling outside: "
            "keras.optimizers.LossScaleOptimizer(LayerRates(optimizer, rates))."
        )
    if any(
        hasattr(vars(one).get("update_step"), "has_rates") for one in _every_optimizer(optimizer)
    ):
        raise ValueError(
            "LayerRates: the optimizer already is within another LayerRates. Give a new one: "
            "type(optimizer).from_config(optimizer.get_config())."
        )
    return optimizer


def _checked_rates(rates: object) -> tuple[_Rule, ...] | float:
    if not isinstance(rates, Mapping):
        return functions.real_number(
            rates, "LayerRates", "rates", "a dictionary or a positive number", lambda rate: rate > 0
        )
    if not rates:
        raise ValueError('LayerRates: rates is empty. Give a factor, such as {"encoder": 0.1}.')
    return tuple(_checked_rule(key, factor) for key, factor in rates.items())


def _checked_rule(key: object, factor: Any) -> _Rule:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise ValueError(
            "LayerRates: a key of rates must be a name, a pattern or an integer, the place of a "
            f"layer, but is {key!r}."
        )
    factor = functions.real_number(
        factor,
        "LayerRates",
        f"rates[{key!r}]",
        "a finite number of at least 0",
        lambda rate: rate >= 0,
    )
    return key, factor


def _every_optimizer(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """An optimizer and those within it, such as the one for the other weights of `Bop`."""
    within = [
        value
        for name, value in vars(optimizer).items()
        if isinstance(value, keras.optimizers.Optimizer) and not name.startswith("_")
    ]
    return [optimizer, *(one for inner in within for one in _every_optimizer(inner))]


def _parts(variable: keras.Variable | tf.Variable) -> Sequence[tf.Variable]:
    """The copies of a variable on the local replicas."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return tf.distribute.get_strategy().experimental_local_results(value)


def _path(variable: Any) -> str:
    # A plain tf.Variable has no path.
    return getattr(variable, "path", variable.name)


def _factors(rules: tuple[_Rule, ...] | float, paths: Sequence[str]) -> list[float]:
    """The factor of each variable, from the variables' paths."""
    owners = [path.rpartition("/")[0] or path for path in paths]
    layers = list(dict.fromkeys(owners))
    if isinstance(rules, float):
        return [rules ** (len(layers) - 1 - layers.index(owner)) for owner in owners]
    factors = [1.0] * len(paths)
    for key, factor in rules:
        fitting = [
            place
            for place, (path, owner) in enumerate(zip(paths, owners, strict=True))
            if _fits(key, path, layers.index(owner), len(layers))
        ]
        if not fitting:
            raise _no_layer(key, layers)
        for place in fitting:
            factors[place] = factor
    return factors


def _fits(key: str | int, path: str, place: int, layers: int) -> bool:
    if isinstance(key, int):
        return key in (place, place - layers)
    names = path.split("/")
    ends = range(1, len(names) + 1)
    parts = ["/".join(names[start:end]) for end in ends for start in range(end)]
    return any(fnmatch.fnmatchcase(part, key) for part in parts)


def _no_layer(key: str | int, layers: Sequence[str]) -> ValueError:
    if isinstance(key, int):
        return ValueError(
            f"LayerRates: there is no layer {key}: the model has {len(layers)} layers with "
            f"trainable weights, 0 to {len(layers) - 1}, or -{len(layers)} to -1 from the end."
        )
    nearest = difflib.get_close_matches(key, layers, n=3, cutoff=0)
    return ValueError(
        f"LayerRates: no layer with trainable weights fits {key!r}. Did you mean "
        f"{', '.join(map(repr, nearest))}?"
    )

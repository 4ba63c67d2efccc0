"""`swap`: put surrogates into an existing model."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_surrogate import functions, presets
from keras_surrogate.conversion import activation_sites, choosing, layer_tree, rebuilding, reports
from keras_surrogate.layers import SurrogateActivation, SurrogatePReLU
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike, SurrogateLike

_NOT_CHANGED = "its class creates it, and it was not changed; let the class take it as an argument"
_NOT_SAVED = (
    "its class creates it: changed in this copy, but a .keras file creates the old one; use "
    "save_weights, and swap again before load_weights"
)


def swap(
    model: keras.Model,
    mapping: Mapping[FunctionLike, SurrogateLike | SurrogateActivation],
    layers: str | Sequence[str] | Callable[[keras.layers.Layer], bool] | None = None,
    inplace: bool = False,
) -> keras.Model:
    """A copy of a model in which activations keep their value and take the slope of surrogates.

        swapped = swap(model, {"relu": "leaky_backward", "sigmoid": Surrogate("sigmoid", "tanh")})

    The outputs stay the same up to rounding; the gradients are the surrogates'. The class, names,
    weights, random states, compilation and optimizer state are copied. The model does not change.

    An activation matches by its function's name, or by the function itself, in each of these
    places: `activation=`, `recurrent_activation=` and any other public attribute of a layer; the
    layers Activation, ReLU, LeakyReLU, ELU, PReLU and SurrogateActivation; in nested and shared
    models, wrappers, recurrent layers and their cells. `ReLU(max_value=6)` is "relu6", a ReLU or
    LeakyReLU with any negative slope is "leaky_relu", a ReLU with a threshold is "threshold"; all
    keep their parameters. A surrogate matches by its forward, and gets another slope.

    A warning names what swap cannot reach, and `report(swapped)` lists everything:

    * The user's own `call` and Lambda layers are not searched.
    * Operations on Keras tensors, `keras.ops.relu(x)`: use `keras.layers.Activation("relu")(x)`.
    * A ReLU that no function of the collection equals.
    * Activations that a class creates in its own code, as KerasHub's backbones do. They change in
      the copy if they are arguments of layers, but a `.keras` file creates the old ones again. Save
      only the weights then: `swap(build(), mapping).load_weights(path)`.

    The copy belongs to the model's own `tf.distribute.Strategy`, wherever swap is called.

    A sigmoid at the end of a model should be excluded by `layers`, and swap warns about it. Keras's
    cross-entropies use the logits of Keras's own sigmoid and never its slope. Of a surrogate they
    use the output, clipped to within 1e-7 of 0 and 1: its slope is used, and the loss of one
    example is at most 16. A GRU or LSTM with activations other than Keras's own does not use cuDNN.

    Args:
        model: a Keras model, built or not, compiled or not.
        mapping: from activations to surrogates. A key is a name ("relu", "swish", "prelu",
            "gelu_approximate") or a function. A function of keras.activations stands for its name.
            Any other callable and any `Function` match only this function with these parameters,
            and take precedence over names. A value is an argument of `keras_surrogate.get`: the
            name of a preset, a `Surrogate`, the name of a function. Only its backward, scale,
            residual and jit_compile are used, because the forward is the model's own. A
            `SurrogateActivation` as value creates such layers, whose slope
            `callbacks.SurrogateAnnealing` can change.
        layers: the layers to change: a name, a path ("encoder/dense"), a pattern ("conv*") or a
            list of these, each with all layers inside; or a function of a layer. Default: all.
        inplace: change the model itself, and create its train, test and predict functions again,
            because the old ones keep the old activations. Only arguments and Activation layers can
            be changed in place. Compile other models with the same layers again. Default False.

    Returns:
        The copy; with `inplace`, the model.

    Raises:
        ValueError: an unknown name, an activation or a layer that the model does not have, a layer
            that cannot be copied or, with `inplace`, not be changed. Nothing is changed then.
    """
    choosing.check_model("swap", model)
    places = choosing.chosen(model, layers)
    found = list(activation_sites.sites(places))
    targets = _targets(mapping, {site.name for site in found})
    operations = list(activation_sites.operations(places))
    _check_matches(targets, found, operations, layers)

    aimed = [(site, _target_of(site, targets)) for site in found]
    changes = [_Change(site, target.slope) for site, target in aimed if target]
    possible = [change for change in changes if change.possible]
    if inplace:
        result = _changed_in_place(model, possible)
        lost = {}
    else:
        result = _changed_copy(model, possible)
        lost = _lost(model, result, possible)

    done = [change.reported() for change in possible if lost.get(change) != _NOT_CHANGED]
    names = {target.name for target in targets}
    left = [reports.Unreached(change.site.path, reason) for change, reason in lost.items()]
    left += [
        reports.Unreached(change.site.path, "no function of the collection equals it")
        for change in changes
        if not change.possible
    ]
    left += [
        reports.Unreached(site.path, "a lambda is not searched")
        for site, target in aimed
        if site.name == "<lambda>" and not target
    ]
    left += _logits_hidden(model, possible)
    left += _unseen(places)
    left += [
        reports.Unreached(operation.path, operation.in_words)
        for operation in operations
        if operation.name in names
    ]
    reports.keep(result, reports.Report(tuple(done), tuple(left)))
    return result


@dataclasses.dataclass(frozen=True)
class _Slope:
    """The new slope of an activation, and the blend of its layer if it can be annealed."""

    pair: Surrogate
    blend: float | None = None


@dataclasses.dataclass(frozen=True)
class _Target:
    """The activations to change, by name or by function, and their new slope."""

    name: str
    function: functions.Function | None
    slope: _Slope

    def fits(self, site: activation_sites.Site) -> bool:
        if self.function is None:
            return site.name == self.name
        return site.function == self.function


def _target_of(site: activation_sites.Site, targets: Sequence[_Target]) -> _Target | None:
    return next((target for target in targets if target.fits(site)), None)


def _targets(mapping: object, present: Collection[str]) -> list[_Target]:
    """The target of each key of a mapping, functions before names.

    Args:
        mapping: as in `swap`.
        present: the names of the model's activations.
    """
    if not isinstance(mapping, dict) or not mapping:
        raise ValueError(
            f'swap needs a mapping such as {{"relu": "leaky_backward"}}, but got {mapping!r}.'
        )
    targets = [_target(key, _slope(value), present) for key, value in mapping.items()]
    return sorted(targets, key=lambda target: target.function is None)


def _target(key: object, slope: _Slope, present: Collection[str]) -> _Target:
    if isinstance(key, str):
        return _Target(_name(key, present), None, slope)
    if not callable(key) and not isinstance(key, functions.Function):
        raise ValueError(
            "swap: a key must be the name of an activation, such as 'relu', or a function, but "
            f"is {key!r}."
        )
    function = functions.get(key)
    # keras.activations.leaky_relu stands for "leaky_relu" with any slope, LeakyRelu(0.3) for this
    # slope only.
    is_exact = isinstance(key, functions.Function) or isinstance(function, functions.FromCallable)
    return _Target(function.title, function if is_exact else None, slope)


def _name(key: str, present: Collection[str]) -> str:
    if key == "prelu" or key in present:
        return key
    if not functions.is_known(key):
        raise functions.unknown_name("activation", key, [*present, *functions.names()])
    return functions.get(key).title


def _slope(value: SurrogateLike | SurrogateActivation) -> _Slope:
    if isinstance(value, SurrogateActivation):
        return _Slope(value.surrogate, value.blend)
    return _Slope(presets.get(value))


def _check_matches(targets, found, operations, layers):
    """Raise a ValueError for keys that match nothing, which would have no effect."""
    present = collections.Counter(site.name for site in found if site.name != "linear")
    missing = [target.name for target in targets if not any(target.fits(site) for site in found)]
    if not missing:
        return
    where = "The model has" if layers is None else "The layers chosen have"
    listed = (
        ", ".join(f"{name} ({count})" for name, count in present.items()) or "none but linear ones"
    )
    sentences = [
        f"{where} no activation {', '.join(map(repr, missing))} that swap can reach, but {listed}."
    ]
    alike = [
        name
        for name in present
        if any(name != other and (name in other or other in name) for other in missing)
    ]
    if alike:
        sentences.append(f"Did you mean {' or '.join(map(repr, alike))}?")
    if any(target.function is not None and target.name in present for target in targets):
        sentences.append(
            "A function as key matches only this function, a name every function of that name."
        )
    sentences += [
        f"{operation.path} {operation.in_words}."
        for operation in operations
        if operation.name in missing
    ]
    raise ValueError(" ".join(sentences))


@dataclasses.dataclass(frozen=True)
class _Change:
    """An activation and its new slope."""

    site: activation_sites.Site
    slope: _Slope

    @property
    def possible(self) -> bool:
        return self.site.function is not None or self.site.name == "prelu"

    @property
    def surrogate(self) -> Surrogate:
        return dataclasses.replace(self.slope.pair, forward=self.site.function)

    def value(self) -> Surrogate | SurrogateActivation:
        """The new value of the slot."""
        if self.slope.blend is None:
            return self.surrogate
        # The name tells `strip` that there was no layer before.
        return self._layer(name="surrogate_activation")

    def layer(self) -> SurrogateActivation | SurrogatePReLU:
        """The layer that replaces the activation's layer."""
        if self.site.name == "prelu":
            config = self.site.layer.get_config()
            config["backward"] = self.slope.pair.backward.get_config()
            return SurrogatePReLU.from_config(config)
        return self._layer(name=self.site.layer.name, trainable=self.site.layer.trainable)

    def _layer(self, **kwargs: Any) -> SurrogateActivation:
        blend = 1.0 if self.slope.blend is None else self.slope.blend
        return SurrogateActivation(
            self.surrogate, blend=blend, dtype=self.site.layer.dtype_policy, **kwargs
        )

    def made_in(self, layer: keras.layers.Layer) -> bool:
        """True if `layer`, the counterpart in a copy, has this change."""
        if not self.site.slot:
            return isinstance(layer, SurrogateActivation | SurrogatePReLU)
        held = getattr(layer, self.site.slot, None)
        return getattr(held, "surrogate", held) == self.surrogate

    def reported(self) -> reports.Change:
        after = f"{self.site.name} with the slope of {self.slope.pair.slope_title}"
        return reports.Change(self.site.path, self.site.name, after)


def _changed_copy(model: keras.Model, changes: Sequence[_Change]) -> keras.Model:
    slots = collections.defaultdict(dict)
    for change in changes:
        _check_prelu(change)
        if change.site.slot:
            slots[id(change.site.layer)][change.site.slot] = change.value()
    replacements = {
        id(change.site.layer): change.layer for change in changes if not change.site.slot
    }
    return rebuilding.rebuilt(model, slots, replacements)


def _check_prelu(change: _Change) -> None:
    has_extra = change.slope.pair.scale != 1 or change.slope.blend is not None
    if change.site.name == "prelu" and has_extra:
        raise ValueError(
            f"swap: {change.site.path} is a PReLU, whose surrogate has neither a scale nor a "
            'blend. Give the slope as the name of its function: {"prelu": "leaky_relu"}.'
        )


def _lost(model: keras.Model, copy: keras.Model, changes: Sequence[_Change]) -> dict[_Change, str]:
    """The changes that are not in the configuration of the copy, with the reasons.

    Such activations are created by the code of a class.
    """
    in_copy = _counterparts(model, copy, changes)
    missing = [change for change, layer in in_copy if not change.made_in(layer)]
    if not missing:
        return {}
    done = [change for change, layer in _counterparts(model, copy, missing) if _set(layer, change)]
    in_file = _counterparts(model, rebuilding.remade(copy), done)
    saved = [change for change, layer in in_file if change.made_in(layer)]
    return {
        change: _NOT_SAVED if change in done else _NOT_CHANGED
        for change in missing
        if change not in saved
    }


def _counterparts(
    model: keras.Model, copy: keras.Model, changes: Sequence[_Change]
) -> list[tuple[_Change, keras.layers.Layer]]:
    """(change, its layer in the copy) for each change."""
    counterparts = {
        id(layer): counterpart for _, layer, counterpart in layer_tree.pairs(model, copy)
    }
    return [(change, counterparts[id(change.site.layer)]) for change in changes]


def _set(layer: keras.layers.Layer, change: _Change) -> bool:
    """Set an activation of a built layer. Returns False if that is not possible."""
    if change.site.slot is None or change.slope.blend is not None:
        return False
    layer_tree.set_slot(layer, change.site.slot, change.surrogate)
    return True


def _changed_in_place(model: keras.Model, changes: Sequence[_Change]) -> keras.Model:
    fixed = [change.site.path for change in changes if change.site.slot is None]
    if fixed:
        raise ValueError(
            f"swap cannot replace whole layers in place, which {', '.join(fixed)} would need. Use "
            "the copy that swap returns without inplace, or exclude these by `layers`."
        )
    if any(change.slope.blend is not None for change in changes):
        raise ValueError(
            "swap cannot put layers into a built model in place. Give the slope as a Surrogate "
            "instead of a SurrogateActivation, or use the copy that swap returns without inplace."
        )
    for change in changes:
        layer_tree.set_slot(change.site.layer, change.site.slot, change.surrogate)
    _create_functions_again(model)
    return model


def _create_functions_again(model: keras.Model) -> None:
    """Create the compiled functions again, because they contain the old activations."""
    for kind in ("train", "test", "predict"):
        if getattr(model, f"{kind}_function", None) is not None:
            getattr(model, f"make_{kind}_function")(force=True)


def _logits_hidden(model: keras.Model, changes: Sequence[_Change]) -> list[reports.Unreached]:
    """A warning about a sigmoid at the end of the model."""
    last = model.layers[-1] if model.layers else None
    reason = (
        "ends the model: Keras's cross-entropies no longer use its logits; exclude it by `layers`"
    )
    ending = [
        change for change in changes if change.site.name == "sigmoid" and change.site.layer is last
    ]
    return [reports.Unreached(change.site.path, reason) for change in ending]


def _unseen(places: Sequence[layer_tree.Place]) -> Iterator[reports.Unreached]:
    """The places that may hold activations which are not found."""
    for place in places:
        if isinstance(place.layer, keras.layers.Lambda):
            yield reports.Unreached(place.path, "a Lambda layer is not searched")
        elif layer_tree.has_own_call(place.layer):
            reason = f"the call of {type(place.layer).__name__} is not searched"
            yield reports.Unreached(place.path, reason)

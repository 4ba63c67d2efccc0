"""Surrogates into an existing model."""

import collections
import dataclasses

import keras

from keras_surrogate import functions, presets
from keras_surrogate.conversion import activation_sites, choosing, layer_tree, rebuilding, reports
from keras_surrogate.layers import SurrogateActivation, SurrogatePReLU
from keras_surrogate.surrogate import Surrogate


def swap(model, mapping, layers=None, inplace=False):
    """A copy of a model in which activations keep their value and take the slope of surrogates.

        swapped = swap(model, {"relu": "leaky_backward", "sigmoid": Surrogate("sigmoid", "tanh")})

    Outputs stay the same, but for the last bits of rounding; the gradients are the surrogates'.
    Class, names, weights, states of random numbers, compilation and the state of the optimizer are
    copied, and the model is left as it was.

    An activation matches by its function's name, or by the function itself, wherever it is:
    `activation=` and `recurrent_activation=` (and any activation that a layer keeps in a public
    attribute), the layers Activation, ReLU, LeakyReLU, ELU, PReLU and SurrogateActivation; in
    nested and shared models, wrappers, recurrent layers and their cells. `ReLU(max_value=6)` is
    "relu6", a ReLU or LeakyReLU with any negative slope "leaky_relu", a ReLU with a threshold
    "threshold", all with their own parameters. A surrogate that is there already matches by its
    forward, and its slope is replaced.

    What swap cannot reach it tells by a warning, and `report(swapped)` lists everything: the user's
    own `call` and Lambda layers, which are not looked into; operations on Keras tensors
    (`keras.ops.relu(x)`, to be replaced by `keras.layers.Activation("relu")(x)`); a ReLU that no
    function of the collection equals; and what a class creates in its own code, as KerasHub's
    backbones do: it changes in the copy if it is an argument, but a `.keras` file would create it
    as it was. Save weights only, then: `swap(build(), mapping).load_weights(path)`.

    The copy belongs to the model's own `tf.distribute.Strategy`, wherever swap is called.

    Args:
        model: a Keras model, built or not, compiled or not.
        mapping: from an activation to what `keras_surrogate.get` takes: a preset's name, a
            `Surrogate`, a function's name. The activation is given by the name of its function
            ("relu", "swish", "prelu", "gelu_approximate"), or as the function itself: of Keras's
            own (`keras.activations.relu`) this means the name, of any other callable and of a
            `Function` with its parameters just these, before any name. The value is always the
            model's own: of the surrogate only backward, scale, residual and jit_compile are taken.
            A `SurrogateActivation` makes layers like it, whose slope `callbacks.SurrogateAnnealing`
            can change.
        layers: which layers: a name, a path ("encoder/dense"), a pattern ("conv*"), a list of
            these, each of which stands for all that is inside as well; or a function of a layer.
            Default: all.
        inplace: changes the model itself, and makes its train, test and predict functions anew,
            without which `fit` would keep the old activation. Only arguments, and Activation
            layers, can be changed in place. Other compiled models that hold the same layers must be
            compiled anew. Default False.

    Returns:
        The copy; with `inplace`, the model.

    Raises:
        ValueError: an unknown name, an activation or a layer that the model does not have, a layer
            that cannot be copied or, with `inplace`, not be changed. Nothing was changed then.

    A sigmoid at the end of a model is better left out by `layers`, and swap warns of it: Keras's
    cross-entropies take the logits of Keras's own sigmoid and never use its slope. Of a surrogate
    they take the output, clipped to within 1e-7 of 0 and 1, so that its slope is used, and a sure
    mistake costs 16 at most. A GRU or LSTM with other activations than Keras's own does not use
    cuDNN.
    """
    choosing.check_model("swap", model)
    places = choosing.chosen(model, layers)
    found = list(activation_sites.sites(places))
    targets = _targets(mapping, {site.name for site in found})
    operations = list(activation_sites.operations(places))
    _check_matches(targets, found, operations, layers)
    aimed = [
        (site, next((target for target in targets if target.fits(site)), None)) for site in found
    ]
    changes = [_Change(site, target.slope) for site, target in aimed if target]
    unequal = [change for change in changes if not change.possible]
    possible = [change for change in changes if change.possible]
    result = _changed_in_place(model, possible) if inplace else _changed_copy(model, possible)
    lost = {} if inplace else _lost(model, result, possible)
    done = [change.reported() for change in possible if lost.get(change) != _NOT_CHANGED]
    left = [reports.Unreached(change.site.path, reason) for change, reason in lost.items()]
    left += [
        reports.Unreached(change.site.path, "no function of the collection equals it")
        for change in unequal
    ]
    left += [
        reports.Unreached(site.path, "a lambda is not looked into")
        for site, target in aimed
        if site.name == "<lambda>" and not target
    ]
    left += _logits_hidden(model, possible)
    left += _unseen(places)
    left += [
        reports.Unreached(operation.path, operation.in_words)
        for operation in operations
        if operation.name in {target.name for target in targets}
    ]
    reports.keep(result, reports.Report(tuple(done), tuple(left)))
    return result


@dataclasses.dataclass(frozen=True)
class _Slope:
    """What takes the place of an activation but for its value, and whether as a layer that can be annealed."""

    pair: Surrogate
    blend: float | None = None


@dataclasses.dataclass(frozen=True)
class _Target:
    """Which activations to change: those of a name, or those of just this function; and what they take."""

    name: str
    function: functions.Function | None
    slope: _Slope

    def fits(self, site):
        return site.name == self.name if self.function is None else site.function == self.function


def _targets(mapping, present):
    """The `_Target` of each key of a mapping, functions before names. `present` are the names in the model."""
    if not isinstance(mapping, dict) or not mapping:
        raise ValueError(
            f'swap needs a mapping such as {{"relu": "leaky_backward"}}, but got {mapping!r}.'
        )
    targets = [_target(key, _slope(value), present) for key, value in mapping.items()]
    return sorted(targets, key=lambda target: target.function is None)


def _target(key, slope, present):
    if isinstance(key, str):
        return _Target(_name(key, present), None, slope)
    if not callable(key) and not isinstance(key, functions.Function):
        raise ValueError(
            f"swap: activations go by their names, such as 'relu', or are functions, but got {key!r}."
        )
    function = functions.get(key)
    # keras.activations.leaky_relu means "leaky_relu", with whatever slope, but LeakyRelu(0.3) just
    # this one.
    is_exact = isinstance(key, functions.Function) or isinstance(function, functions.FromCallable)
    return _Target(function.title, function if is_exact else None, slope)


def _name(key, present):
    if key == "prelu" or key in present:
        return key
    if not functions.is_known(key):
        raise functions.unknown_name("activation", key, [*present, *functions.names()])
    return functions.get(key).title


def _slope(value):
    if isinstance(value, SurrogateActivation):
        return _Slope(value.surrogate, value.blend)
    return _Slope(presets.get(value))


def _check_matches(targets, found, operations, layers):
    """A key that fits nothing is a mistake: the model would train on as before, with nothing to show for it."""
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
            "A function as key means that very function, and a name every function of that name."
        )
    sentences += [
        f"{operation.path} {operation.in_words}."
        for operation in operations
        if operation.name in missing
    ]
    raise ValueError(" ".join(sentences))


@dataclasses.dataclass(frozen=True)
class _Change:
    """An activation, and what it is to become."""

    site: activation_sites.Site
    slope: _Slope

    @property
    def possible(self):
        return self.site.function is not None or self.site.name == "prelu"

    @property
    def surrogate(self):
        return dataclasses.replace(self.slope.pair, forward=self.site.function)

    def value(self):
        """What the slot gets."""
        if self.slope.blend is None:
            return self.surrogate
        # By this name `strip` knows that no layer was there before.
        return self._layer(name="surrogate_activation")

    def layer(self):
        """The layer that takes the place of a layer."""
        if self.site.name == "prelu":
            backward = self.slope.pair.backward.get_config()
            return SurrogatePReLU.from_config(
                {**self.site.layer.get_config(), "backward": backward}
            )
        return self._layer(name=self.site.layer.name, trainable=self.site.layer.trainable)

    def _layer(self, **kwargs):
        blend = 1.0 if self.slope.blend is None else self.slope.blend
        return SurrogateActivation(
            self.surrogate, blend=blend, dtype=self.site.layer.dtype_policy, **kwargs
        )

    def made_in(self, layer):
        """Whether `layer`, the counterpart in a copy, has it."""
        if not self.site.slot:
            return isinstance(layer, SurrogateActivation | SurrogatePReLU)
        held = getattr(layer, self.site.slot, None)
        return getattr(held, "surrogate", held) == self.surrogate

    def reported(self):
        after = f"{self.site.name} with the slope of {self.slope.pair.slope_title}"
        return reports.Change(self.site.path, self.site.name, after)


def _changed_copy(model, changes):
    slots = collections.defaultdict(dict)
    for change in changes:
        _check_prelu(change)
        if change.site.slot:
            slots[id(change.site.layer)][change.site.slot] = change.value()
    replacements = {
        id(change.site.layer): change.layer for change in changes if not change.site.slot
    }
    return rebuilding.rebuilt(model, slots, replacements)


def _check_prelu(change):
    if change.site.name == "prelu" and (
        change.slope.pair.scale != 1 or change.slope.blend is not None
    ):
        raise ValueError(
            f"swap: {change.site.path} is a PReLU, whose surrogate has neither a scale nor a blend. Give the slope by "
            'the name of its function, as in {"prelu": "leaky_relu"}.'
        )


_NOT_CHANGED = (
    "its class creates it, so that it was not changed; let the class take it as an argument"
)
_NOT_SAVED = (
    "its class creates it: changed in this copy, but a .keras file creates it as it was; save_weights, and swap anew "
    "before load_weights"
)


def _lost(model, copy, changes):
    """The changes that the configuration could not make, because a class creates its layers by itself; and why."""
    missing = [
        change for change, layer in _counterparts(model, copy, changes) if not change.made_in(layer)
    ]
    if not missing:
        return {}
    done = [change for change, layer in _counterparts(model, copy, missing) if _set(layer, change)]
    remade = rebuilding.remade(copy)
    saved = [
        change for change, layer in _counterparts(model, remade, done) if change.made_in(layer)
    ]
    return {
        change: _NOT_SAVED if change in done else _NOT_CHANGED
        for change in missing
        if change not in saved
    }


def _counterparts(model, copy, changes):
    """(change, the layer of the copy that it belongs to) for each change."""
    counterparts = {
        id(layer): counterpart for _, layer, counterpart in layer_tree.pairs(model, copy)
    }
    return [(change, counterparts[id(change.site.layer)]) for change in changes]


def _set(layer, change):
    """Sets an activation of a built layer; whether that could be done."""
    if change.site.slot is None or change.slope.blend is not None:
        return False
    layer_tree.set_slot(layer, change.site.slot, change.surrogate)
    return True


def _changed_in_place(model, changes):
    fixed = [change.site.path for change in changes if change.site.slot is None]
    if fixed:
        raise ValueError(
            f"swap cannot replace whole layers in place, which {', '.join(fixed)} would need. Take the copy that swap "
            "returns without inplace, or leave these out by `layers`."
        )
    if any(change.slope.blend is not None for change in changes):
        raise ValueError(
            "swap cannot put layers into a built model in place. Give the slope as a Surrogate and not as a "
            "SurrogateActivation, or take the copy that swap returns without inplace."
        )
    for change in changes:
        layer_tree.set_slot(change.site.layer, change.site.slot, change.surrogate)
    _make_functions_anew(model)
    return model


def _make_functions_anew(model):
    """What was compiled holds the old activations until it is made again; what was not is left to Keras."""
    for kind in ("train", "test", "predict"):
        if getattr(model, f"{kind}_function", None) is not None:
            getattr(model, f"make_{kind}_function")(force=True)


def _logits_hidden(model, changes):
    last = model.layers[-1] if model.layers else None
    reason = "ends the model: Keras's cross-entropies no longer take its logits; leave it out by `layers`"
    ending = [
        change for change in changes if change.site.name == "sigmoid" and change.site.layer is last
    ]
    return [reports.Unreached(change.site.path, reason) for change in ending]


def _unseen(places):
    """Where activations may be that nothing tells of."""
    for place in places:
        if isinstance(place.layer, keras.layers.Lambda):
            yield reports.Unreached(place.path, "a Lambda layer is not looked into")
        elif layer_tree.has_own_call(place.layer):
            yield reports.Unreached(
                place.path, f"the call of {type(place.layer).__name__} is not looked into"
            )

"""Out of a model again: plain Keras activations, so that it is served where this package is not."""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable

import keras

from keras_surrogate import layers
from keras_surrogate.conversion import activation_sites, choosing, layer_tree, rebuilding, reports
from keras_surrogate.surrogate import Surrogate


def strip(model):
    """A copy of a model without surrogates: the same outputs, the ordinary gradients, and nothing of this package.

        strip(swap(model, mapping))     the model again: class, names, configuration, weights

    Its `.keras` file loads where keras_surrogate is not installed. Weights, compilation and the
    state of the optimizer are copied; the model is left as it was. A model without surrogates comes
    back as an equal copy.

    Each surrogate becomes what Keras has for its forward: a name where it was an argument; ReLU,
    LeakyReLU, ELU or Activation where it was a `SurrogateActivation`. GradientReversal and
    GradientScale become Activation("linear"), GuidedReLU and DeconvReLU ReLU, SurrogatePReLU PReLU.
    RReLU becomes the LeakyReLU that it is at inference, and a warning tells so, because in training
    it no longer draws slopes. `report(stripped)` lists everything.

    One spelling is not remembered: a ReLU(negative_slope=s) that was swapped comes back as the
    equal LeakyReLU(s).

    Args:
        model: a Keras model.

    Raises:
        ValueError: a forward that Keras does not have (a step, a sign, "bsilu"), a layer that Keras
            does not have (`SurrogateStep`), or a layer that cannot be copied. It names them all.
    """
    choosing.check_model("strip", model)
    found = list(_surrogates(model))
    _check_keras_has(found)
    slots = collections.defaultdict(dict)
    for surrogate in found:
        slots[id(surrogate.layer)][surrogate.slot] = surrogate.plain
    replacements = {
        id(surrogate.layer): surrogate.make for surrogate in found if surrogate.slot is None
    }
    copy = rebuilding.rebuilt(model, slots, replacements)
    unreached = [*_random_slopes(found), *_set_what_classes_create(copy)]
    _check_no_trace(copy)
    reports.keep(
        copy, reports.Report(tuple(surrogate.reported() for surrogate in found), tuple(unreached))
    )
    return copy


@dataclasses.dataclass(frozen=True)
class _Found:
    """A surrogate in a model.

    Attributes:
        path: where it is.
        layer: the layer that holds it as the attribute `slot`, or that is it, if `slot` is None.
        before: its name.
        make: makes the plain activation, or gives None where Keras has none.
    """

    path: str
    layer: keras.layers.Layer
    slot: str | None
    before: str
    make: Callable

    @property
    def plain(self):
        return self.make()

    def reported(self):
        plain = self.plain
        return reports.Change(
            self.path, self.before, plain if isinstance(plain, str) else _class_or_name(plain)
        )


def _class_or_name(plain):
    return type(plain).__name__ if isinstance(plain, keras.layers.Layer) else plain.__name__


def _surrogates(model):
    """A `_Found` for each surrogate and each layer of this package."""
    for place in layer_tree.walk(model):
        for slot, value in layer_tree.slots(place.layer).items():
            if isinstance(value, Surrogate):
                make = functools.partial(activation_sites.keras_activation, value.forward)
                yield _Found(f"{place.path}.{slot}", place.layer, slot, value.title, make)
        if layer_tree.is_ours(place.layer):
            yield _in_slot(place) or _as_layer(place)


def _in_slot(place):
    """A `SurrogateActivation` that serves as an argument where, by its name, no layer need be; else None."""
    if place.owner is None or not place.layer.name.startswith("surrogate_activation"):
        return None
    surrogate = place.layer.surrogate
    slot = next(slot for slot, value in vars(place.owner).items() if value is place.layer)
    return _Found(
        place.path,
        place.owner,
        slot,
        surrogate.title,
        functools.partial(activation_sites.keras_activation, surrogate.forward),
    )


def _as_layer(place):
    layer = place.layer
    before = (
        layer.surrogate.title if type(layer) is layers.SurrogateActivation else type(layer).__name__
    )
    make = _PLAIN.get(type(layer), lambda layer: None)
    return _Found(place.path, layer, None, before, functools.partial(make, layer))


def _base(layer):
    """What every Keras layer takes, without defaults, because ELU's configuration has just what it was made with."""
    base = {"name": layer.name}
    if not layer.trainable:
        base["trainable"] = False
    if layer.dtype_policy != keras.config.dtype_policy():
        base["dtype"] = layer.dtype_policy.name
    return base


def _plain_surrogate_activation(layer):
    return activation_sites.keras_layer(layer.surrogate.forward, **_base(layer))


def _plain_relu(layer):
    return keras.layers.ReLU(**_base(layer))


def _plain_linear(layer):
    return keras.layers.Activation("linear", **_base(layer))


def _plain_rrelu(layer):
    mean = (layer.lower + layer.upper) / 2
    return keras.layers.LeakyReLU(mean, **_base(layer)) if mean >= 0 else None


def _plain_prelu(layer):
    config = {key: value for key, value in layer.get_config().items() if key != "backward"}
    return keras.layers.PReLU.from_config(config)


_PLAIN = {
    layers.SurrogateActivation: _plain_surrogate_activation,
    layers.SurrogatePReLU: _plain_prelu,
    layers.RReLU: _plain_rrelu,
    layers.GuidedReLU: _plain_relu,
    layers.DeconvReLU: _plain_relu,
    layers.GradientScale: _plain_linear,
    layers.GradientReversal: _plain_linear,
}


def _check_keras_has(found):
    missing = [
        f"{surrogate.path} ({surrogate.before})" for surrogate in found if surrogate.plain is None
    ]
    if missing:
        raise ValueError(
            f"strip: Keras has nothing that computes {', '.join(missing)}. Keep these surrogates; conversion.export "
            "writes a SavedModel, which is served without keras_surrogate."
        )


def _random_slopes(found):
    for surrogate in found:
        if isinstance(surrogate.layer, layers.RReLU):
            yield reports.Unreached(
                surrogate.path, "was an RReLU, and draws no slopes in training any more"
            )


def _set_what_classes_create(copy):
    """Makes plain, in a copy, the arguments that a class of the user's sets to surrogates in its own code."""
    for surrogate in list(_surrogates(copy)):
        if surrogate.slot is None or isinstance(surrogate.plain, keras.layers.Layer):
            raise ValueError(
                f"strip: {surrogate.path} is created by the code of its class, which must create a plain activation."
            )
        plain = surrogate.plain
        layer_tree.set_slot(surrogate.layer, surrogate.slot, keras.activations.get(plain))
        yield reports.Unreached(
            surrogate.path, "its class creates a surrogate, and will when a .keras file is loaded"
        )


def _check_no_trace(copy):
    """A `.keras` file holds these configurations; whatever is ours in them would have to be imported to load it."""
    described = repr([keras.saving.serialize_keras_object(copy), copy.get_compile_config()])
    trace = re.search(r"'keras_surrogate(>|\.)[^']*'", described)
    if trace:
        raise ValueError(
            f"strip: the configuration of {copy.name} still refers to {trace.group()}, in an argument that strip does "
            "not know. Make the model without it."
        )

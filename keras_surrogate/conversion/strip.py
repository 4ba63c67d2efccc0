"""`strip`: replace surrogates by plain Keras activations, to serve a model without this package."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_surrogate import layers
from keras_surrogate.conversion import (
    activation_sites,
    choosing,
    layer_tree,
    rebuilding,
    reports,
    rounding,
)
from keras_surrogate.layers.within import children, everything_within
from keras_surrogate.surrogate import Surrogate


def strip(model: keras.Model) -> keras.Model:
    """A copy of a model without surrogates: the same outputs and the true gradients.

        strip(swap(model, mapping))     the model again: class, names, configuration, weights

    Its `.keras` file loads where keras_surrogate is not installed. Weights, compilation and the
    optimizer state are copied. The model does not change. The copy of a model without surrogates is
    equal to it.

    Each surrogate becomes Keras's activation with the same values: a name where it was an argument;
    ReLU, LeakyReLU, ELU or Activation where it was a `SurrogateActivation`. GradientReversal and
    GradientScale become Activation("linear"), GuidedReLU and DeconvReLU become ReLU, SurrogatePReLU
    becomes PReLU. RReLU becomes LeakyReLU, its form at inference, with a warning, because it no
    longer draws random slopes in training. SurrogateWeights becomes the layer that it wraps, with
    the values of the surrogate as its weights and without `WeightClip`; the optimizer starts anew
    then. Bop and LayerRates become the optimizer within them. FakeQuantize becomes a model of
    Keras's own operations with its range as constants; in graphs, as in `predict`, numbers halfway
    between two levels may be rounded the other way. `report(stripped)` lists everything.

    One difference remains: a ReLU(negative_slope=s) that was swapped becomes the equal
    LeakyReLU(s).

    Args:
        model: a Keras model.

    Raises:
        ValueError: a forward that Keras does not have (a step, a sign, "bsilu"), a layer that Keras
            does not have (`SurrogateStep`), a layer that cannot be copied, a `FakeQuantize` that
            saw no batch, or a layer that is called both within a `SurrogateWeights` and outside of
            it. The message names them.
    """
    choosing.check_model("strip", model)
    found = list(_surrogates(model))
    ranges = [one.layer for one in found if isinstance(one.layer, layers.FakeQuantize)]
    rounding.check_ranges("strip", ranges)
    _check_keras_has(found)
    slots = collections.defaultdict(dict)
    for surrogate in found:
        slots[id(surrogate.layer)][surrogate.slot] = surrogate.plain
    unwrapped = [
        surrogate.layer
        for surrogate in found
        if isinstance(surrogate.layer, layers.SurrogateWeights)
    ]
    _check_used_once(model, unwrapped)
    replacements = {
        id(surrogate.layer): surrogate.make
        for surrogate in found
        if surrogate.slot is None and surrogate.layer not in unwrapped
    }
    copy = rebuilding.rebuilt(model, slots, replacements, unwrapped, plain_optimizer=True)
    unreached = [*_random_slopes(found), *_set_what_classes_create(copy)]
    _check_no_trace(copy)
    changes = tuple(surrogate.reported() for surrogate in found)
    reports.keep(copy, reports.Report(changes, tuple(unreached)))
    return copy


@dataclasses.dataclass(frozen=True)
class _Found:
    """A surrogate in a model.

    Attributes:
        path: its place.
        layer: the layer that holds it, or that is the surrogate.
        slot: the attribute that holds it; None if the layer is the surrogate.
        before: its name.
        make: a function that creates the plain activation, or returns None where Keras has none.
    """

    path: str
    layer: keras.layers.Layer
    slot: str | None
    before: str
    make: Callable[[], str | Callable | keras.layers.Layer | None]

    @property
    def plain(self) -> str | Callable | keras.layers.Layer | None:
        return self.make()

    def reported(self) -> reports.Change:
        return reports.Change(self.path, self.before, _title(self.plain))


def _title(plain: str | Callable | keras.layers.Layer) -> str:
    if isinstance(plain, str):
        return plain
    return type(plain).__name__ if isinstance(plain, keras.layers.Layer) else plain.__name__


def _surrogates(model: keras.Model) -> Iterator[_Found]:
    """Each surrogate and each layer of this package in a model."""
    for place in layer_tree.walk(model):
        for slot, value in layer_tree.slots(place.layer).items():
            if isinstance(value, Surrogate):
                make = functools.partial(activation_sites.keras_activation, value.forward)
                yield _Found(f"{place.path}.{slot}", place.layer, slot, value.title, make)
        if layer_tree.is_ours(place.layer):
            yield _in_slot(place) or _as_layer(place)


def _in_slot(place: layer_tree.Place) -> _Found | None:
    """A `SurrogateActivation` that is an argument and replaced a plain function, or None.

    Its name tells: `swap` names such layers "surrogate_activation".
    """
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


def _as_layer(place: layer_tree.Place) -> _Found:
    layer = place.layer
    before = type(layer).__name__
    if isinstance(layer, layers.SurrogateActivation):
        before = layer.surrogate.title
    elif isinstance(layer, layers.SurrogateWeights):
        before = f"weights by {layer.surrogate.title}"
    make = _PLAIN.get(type(layer), lambda layer: None)
    return _Found(place.path, layer, None, before, functools.partial(make, layer))


def _base(layer: keras.layers.Layer) -> dict[str, Any]:
    """The arguments of every Keras layer, without defaults: ELU's configuration has none."""
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


def _plain_weights(layer):
    return layer.layer


_PLAIN = {
    layers.FakeQuantize: rounding.plain_rounding,
    layers.SurrogateWeights: _plain_weights,
    layers.SurrogateActivation: _plain_surrogate_activation,
    layers.SurrogatePReLU: _plain_prelu,
    layers.RReLU: _plain_rrelu,
    layers.GuidedReLU: _plain_relu,
    layers.DeconvReLU: _plain_relu,
    layers.GradientScale: _plain_linear,
    layers.GradientReversal: _plain_linear,
}


def _check_keras_has(found: Sequence[_Found]) -> None:
    missing = [
        f"{surrogate.path} ({surrogate.before})" for surrogate in found if surrogate.plain is None
    ]
    if missing:
        raise ValueError(
            f"strip: Keras has nothing that computes {', '.join(missing)}. Keep these surrogates: "
            "conversion.export writes a SavedModel, which is served without keras_surrogate."
        )


def _check_used_once(model: keras.Model, wrappers: Sequence[layers.SurrogateWeights]) -> None:
    """Raise a ValueError if a wrapped layer, which gets other weights, is also used elsewhere."""
    for wrapper in wrappers:
        inner = [wrapper.layer, *everything_within(wrapper.layer)]
        shared = [
            child.name
            for holder in [model, *everything_within(model)]
            # The user's own code may hold a layer without calling it.
            if holder not in (wrapper, *inner) and not layer_tree.has_own_call(holder)
            for child in children(holder).values()
            if child in inner
        ]
        if shared:
            raise ValueError(
                f"strip: {shared[0]} is called both within {wrapper.name} (SurrogateWeights) and "
                "outside of it, with other weights. One plain layer cannot hold both. Give each "
                "place a layer of its own."
            )


def _random_slopes(found: Sequence[_Found]) -> Iterator[reports.Unreached]:
    for surrogate in found:
        if isinstance(surrogate.layer, layers.RReLU):
            reason = "was an RReLU, and no longer draws random slopes in training"
            yield reports.Unreached(surrogate.path, reason)


def _set_what_classes_create(copy: keras.Model) -> Iterator[reports.Unreached]:
    """Replace surrogates in a copy that the code of a user's class creates."""
    for surrogate in list(_surrogates(copy)):
        if surrogate.slot is None or isinstance(surrogate.plain, keras.layers.Layer):
            raise ValueError(
                f"strip: {surrogate.path} is created by the code of its class. Change this code, "
                "so that it creates a plain activation."
            )
        plain = surrogate.plain
        layer_tree.set_slot(surrogate.layer, surrogate.slot, keras.activations.get(plain))
        yield reports.Unreached(
            surrogate.path,
            "its class creates a surrogate, also when a .keras file is loaded",
        )


def _check_no_trace(copy: keras.Model) -> None:
    """Raise a ValueError if a `.keras` file of the copy would need this package to load."""
    described = repr([keras.saving.serialize_keras_object(copy), copy.get_compile_config()])
    trace = re.search(r"'keras_surrogate(>|\.)[^']*'", described)
    if trace:
        raise ValueError(
            f"strip: the configuration of {copy.name} still refers to {trace.group()}, in an "
            "argument that strip does not know. Create the model without it."
        )

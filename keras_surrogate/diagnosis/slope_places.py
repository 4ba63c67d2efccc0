"""The places of a model whose slope `recommend` changes: one kind of place, one forward."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence

import keras

from keras_surrogate import conversion
from keras_surrogate.conversion import activation_sites, choosing, layer_tree, rebuilding
from keras_surrogate.diagnosis import surrogate_sites
from keras_surrogate.functions import Function, tables
from keras_surrogate.surrogate import Surrogate

# The argument `layers` of `conversion.swap`.
Chosen = str | Sequence[str] | Callable[[keras.layers.Layer], bool] | None

# A place in words, by its kind.
NOUNS = {"activation": "activation", "neuron": "layer of neurons", "weights": "layer"}


@dataclasses.dataclass(frozen=True)
class SlopePlace:
    """A place with a slope: a plain activation, or one that holds a surrogate.

    Attributes:
        layer, slot, kind: as in `Site`.
        forward: the function of the value.
        owner: the layer that holds or calls it; `conversion.swap` chooses by it.
        now: the surrogate; None for a plain activation.
    """

    layer: keras.layers.Layer
    slot: str | None
    kind: str
    forward: Function
    owner: keras.layers.Layer
    now: Surrogate | None = None


@dataclasses.dataclass(frozen=True)
class Group:
    """The places of one forward, on weights or on the signal.

    Attributes:
        places: its places.
        others: the names of forwards that are left as they are.
    """

    places: tuple[SlopePlace, ...]
    others: tuple[str, ...] = ()

    @property
    def forward(self) -> Function:
        return self.places[0].forward

    @property
    def kind(self) -> str:
        return self.places[0].kind

    @property
    def is_flat(self) -> bool:
        """True if the true slope is 0 everywhere."""
        return tables.is_flat(self.forward)

    @property
    def present(self) -> list[Surrogate]:
        """The pairs that the places have at present, each slope once, with the group's forward."""
        found = []
        for place in self.places:
            pair = place.now
            if pair is None or pair == Surrogate(pair.forward):
                # The same, also where forwards differ in their parameters.
                found.append(Surrogate(self.forward))
            else:
                found.append(Surrogate(self.forward, pair.backward, pair.scale))
        return list(dict.fromkeys(found))

    @property
    def in_words(self) -> str:
        """The places in words: "sign of 8 activations"."""
        count = len(self.places)
        noun = NOUNS[self.kind]
        if count > 1:
            # "layers of neurons"
            noun = noun.replace("activation", "activations").replace("layer", "layers")
        if self.kind == "weights":
            return f"{self.forward.title} of the weights of {count} {noun}"
        return f"{self.forward.title} of {count} {noun}"


def group(model: keras.Model, layers: Chosen, ending: Collection[int]) -> Group:
    """The places to change: those without a true slope first, then the forward with most places.

    Args:
        model: a built Keras model.
        layers: the layers that may be changed, as in `conversion.swap`; None for all.
        ending: the ids of the layers whose output is one of the model's. Their activations belong
            to the loss, and are left out, unless their true slope is 0 everywhere.

    Raises:
        ValueError: there is no place.
    """
    found: dict[tuple[bool, str], list[SlopePlace]] = {}
    for place in _places(model, layers):
        is_ending = place.kind == "activation" and id(place.owner) in ending
        if is_ending and not tables.is_flat(place.forward):
            continue
        key = (place.kind == "weights", place.forward.title)
        found.setdefault(key, []).append(place)
    if not found:
        raise ValueError(
            f"recommend: {model.name} has no hidden activation that it can reach, so there is no "
            "slope to choose. Activations are found as activation= of a layer and as layers "
            '(keras.layers.Activation("relu")), not within the call of a class, a Lambda or as '
            "operations such as keras.ops.relu(x)."
        )

    def order(places: list[SlopePlace]) -> tuple[bool, bool, int]:
        first = places[0]
        return (not tables.is_flat(first.forward), first.kind == "weights", -len(places))

    chosen, *rest = sorted(found.values(), key=order)
    return Group(tuple(chosen), tuple(places[0].forward.title for places in rest))


def _places(model: keras.Model, layers: Chosen) -> Iterator[SlopePlace]:
    chosen = choosing.chosen(model, layers)
    owners = {id(place.layer): place.chosen_as for place in chosen}
    held = set()
    for site in surrogate_sites.sites(model, layers):
        held.add((id(site.layer), site.slot))
        pair = site.plain
        # A reversed gradient is no activation.
        if pair.forward.title != "linear":
            owner = owners[id(site.layer)]
            yield SlopePlace(site.layer, site.slot, site.kind, pair.forward, owner, pair)
    for site in activation_sites.sites(chosen):
        has_slope = site.function is not None and site.name != "linear"
        if has_slope and (id(site.layer), site.slot) not in held:
            owner = site.place.chosen_as
            yield SlopePlace(site.layer, site.slot, "activation", site.function, owner)


def copied(model: keras.Model, chosen: Group) -> keras.Model:
    """A copy of a model with surrogates of the true slope in place of its plain activations.

    Raises:
        ValueError: the model cannot be copied.
    """
    plain = [place for place in chosen.places if place.now is None]
    if not plain:
        return rebuilding.rebuilt(model, {}, {})
    owners = {id(place.owner) for place in plain}
    mapping = {place.forward: Surrogate(place.forward) for place in plain}
    with warnings.catch_warnings():
        # Of places that are not reached: they stay as they are.
        warnings.simplefilter("ignore", UserWarning)
        return conversion.swap(model, mapping, layers=lambda layer: id(layer) in owners)


def sites_in(
    model: keras.Model, copy: keras.Model, chosen: Group
) -> list[tuple[surrogate_sites.Site, SlopePlace]]:
    """The sites of a copy that belong to a group, each with its place in the model."""
    places = {(id(place.layer), place.slot): place for place in chosen.places}
    # Layers that a class creates have other names in a copy.
    originals = {id(other): id(layer) for _, layer, other in layer_tree.pairs(model, copy)}
    found = []
    for site in surrogate_sites.sites(copy):
        place = places.get((originals.get(id(site.layer), 0), site.slot))
        if place is not None:
            found.append((site, place))
    return found

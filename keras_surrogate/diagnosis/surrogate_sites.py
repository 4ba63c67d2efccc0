"""The places of a model that hold a surrogate: activations, weights and spiking neurons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import keras

from keras_surrogate.conversion import choosing, layer_tree
from keras_surrogate.functions.held import Held
from keras_surrogate.layers import SurrogateActivation, SurrogateStep, SurrogateWeights
from keras_surrogate.surrogate import Surrogate

# Other layers of this package have a surrogate that is no argument of theirs.
_WITH_SURROGATE = (SurrogateActivation, SurrogateStep, SurrogateWeights)


@dataclasses.dataclass(frozen=True)
class Site:
    """A place that holds a surrogate.

    Attributes:
        path: the path of the layer, with the attribute where there may be several.
        layer: the layer.
        kind: "activation"; "weights", whose surrogate is that of `SurrogateWeights`; or "neuron", a
            layer of spiking neurons.
        slot: the layer's attribute that holds an activation; None for the other places.
    """

    path: str
    layer: keras.layers.Layer
    kind: Literal["activation", "weights", "neuron"]
    slot: str | None = None

    @property
    def surrogate(self) -> Surrogate:
        if self.slot is not None:
            return getattr(self.layer, self.slot)
        owner = self.layer.neuron if self.kind == "neuron" else self.layer
        return owner.surrogate

    def put(self, surrogate: Surrogate) -> None:
        """Replace the surrogate. Functions that were compiled before keep the old one."""
        if self.slot is not None:
            layer_tree.set_slot(self.layer, self.slot, surrogate)
        elif self.kind == "neuron":
            self.layer.neuron = dataclasses.replace(self.layer.neuron, surrogate=surrogate)
        else:
            self.layer.surrogate = surrogate

    @property
    def plain(self) -> Surrogate:
        """The surrogate; with the factor in its scale if it is held."""
        found = self.surrogate
        if isinstance(found.backward, Held):
            return found.backward.gain.released()
        return found


def sites(
    model: keras.Model,
    layers: str | Sequence[str] | Callable[[keras.layers.Layer], bool] | None = None,
) -> list[Site]:
    """The sites of a model, or of some of its layers, chosen as in `conversion.swap`."""
    return list(_sites(choosing.chosen(model, layers)))


def _sites(places: Sequence[layer_tree.Place]) -> Iterator[Site]:
    for place in places:
        layer = place.layer
        if isinstance(getattr(getattr(layer, "neuron", None), "surrogate", None), Surrogate):
            yield Site(place.path, layer, "neuron")
        elif isinstance(layer, _WITH_SURROGATE):
            is_weights = isinstance(layer, SurrogateWeights)
            yield Site(place.path, layer, "weights" if is_weights else "activation")
        for slot, value in layer_tree.slots(layer).items():
            if isinstance(value, Surrogate):
                path = place.path if slot == "activation" else f"{place.path}.{slot}"
                yield Site(path, layer, "activation", slot)

"""Selection of layers by name, path, pattern or predicate."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Sequence

import keras

from keras_surrogate.conversion import layer_tree


def check_model(asking: str, model: keras.Model) -> None:
    """Raise a ValueError in the name of the function that asks if `model` is not a Keras model."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"{asking} needs a Keras model, but got {model!r}. Put a layer into a keras.Sequential "
            "first."
        )


def chosen(
    model: keras.Model,
    layers: str | Sequence[str] | Callable[[keras.layers.Layer], bool] | None,
) -> list[layer_tree.Place]:
    """The places of the selected layers and of all layers inside them.

    Args:
        model: a Keras model.
        layers: None for all; a function of a layer; a name, a path, a pattern, or several of these.

    Raises:
        ValueError: a name or pattern matches no layer.
    """
    places = list(layer_tree.walk(model))
    if layers is None:
        return places
    if callable(layers):
        return [place for place in places if layers(place.chosen_as)]
    patterns = [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns:
        if not any(_fits(place, pattern) for place in places):
            raise _unknown_layer(pattern, [place.path for place in places])
    return [place for place in places if any(_fits(place, pattern) for pattern in patterns)]


def _fits(place, pattern):
    """True if a name or pattern matches a place or a layer around it, by name or by path."""
    names = place.path.split("/")
    paths = ["/".join(names[:end]) for end in range(1, len(names) + 1)]
    return any(fnmatch.fnmatchcase(name, pattern) for name in [*names, *paths])


def _unknown_layer(pattern, paths):
    nearest = difflib.get_close_matches(str(pattern), paths, n=3, cutoff=0)
    return ValueError(
        f"layers: the model has no layer {pattern!r}. Did you mean "
        f"{', '.join(map(repr, nearest))}? Give names, paths, patterns such as 'conv*', or a "
        "function of a layer."
    )

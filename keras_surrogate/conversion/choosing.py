"""Which layers of a model are meant: by name, path, pattern or predicate."""

import difflib
import fnmatch

import keras

from keras_surrogate.conversion import layer_tree


def check_model(asking, model):
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"{asking} needs a Keras model, but got {model!r}. Put a layer into a keras.Sequential first."
        )


def chosen(model, layers):
    """The places of a model that `layers` means: those of the layers, and of all that is inside them.

    Args:
        layers: None for all; a function of a layer; a name, a path, a pattern, or several of these.

    Raises:
        ValueError: a name or pattern fits no layer.
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
    """Whether a name or pattern fits a place, or a layer around it, by name or by path."""
    names = place.path.split("/")
    paths = ["/".join(names[:end]) for end in range(1, len(names) + 1)]
    return any(fnmatch.fnmatchcase(name, pattern) for name in [*names, *paths])


def _unknown_layer(pattern, paths):
    nearest = difflib.get_close_matches(str(pattern), paths, n=3, cutoff=0)
    return ValueError(
        f"layers: the model has no layer {pattern!r}. Did you mean {', '.join(map(repr, nearest))}? Give names, paths, "
        "patterns such as 'conv*', or a function of a layer."
    )

"""The uses of surrogates in a forward pass, and what they say about the true gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from keras_surrogate.custom_gradient import Use, replaced
from keras_surrogate.functions import tables


@contextlib.contextmanager
def noted() -> Iterator[list[Use]]:
    """A context with a list, which receives every use of a surrogate. The uses are the usual."""
    uses: list[Use] = []

    def noting(use):
        uses.append(use)
        return use.usual(use.x)

    with replaced(noting):
        yield uses


def replaces_slope(use: Use) -> bool:
    """True if a use has another slope than the true one."""
    return use.pair is None or use.pair.backward != use.pair.forward or use.pair.scale != 1


def flat_forwards(uses: Sequence[Use]) -> list[str]:
    """The titles of the functions whose slope is replaced and 0 everywhere, each once.

    A blended surrogate counts too: its true slope is still 0.
    """
    titles = [
        title_of_forward(use)
        for use in uses
        if replaces_slope(use) and (use.pair is None or tables.is_flat(use.pair.forward))
    ]
    return list(dict.fromkeys(titles))


def title_of_forward(use: Use) -> str:
    """The name of the forward in messages."""
    return "a rounding" if use.pair is None else use.pair.forward.title

"""Candidates for a slope: those that fit a forward by a public rule, or those that a user names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from keras_surrogate import functions, presets
from keras_surrogate.functions import tables
from keras_surrogate.functions.lookup import PAIRS
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike
    from keras_surrogate.functions import Function

# So far out that the range of a function of a few levels is known.
_REACH = 100.0


def default_candidates(forward: Function) -> dict[str, Surrogate]:
    """The slopes that `recommend` tries for a forward, by their names.

    1. The slopes of the published pairs with this forward (`keras_surrogate.presets`).
    2. For a function of two values (sign, step): the identity, and boxes, triangles, arc tangents
       and fast sigmoids from wide to narrow.
    3. For another function with slope 0 everywhere: the identity, and the identity between its
       lowest and highest value.
    4. For a bounded function (sigmoid, tanh): its own slope scaled to 1 at its largest, and those
       of tanh, softsign and hard_tanh; for a range from 0 to 1 also that without flat spots.
    5. For any other function (ReLU, ReLU6, GELU): leaky ReLUs with 0.1 and 0.3, softplus,
       B-SiLU, NeLU.

    The forward's own slope is never among them.

    Args:
        forward: a `Function`.

    Returns:
        Pairs with this forward, by the name of the slope: "leaky_relu(negative_slope=0.1)".
    """
    pairs = [*_fitting(forward), *_published(forward)]
    true = Surrogate(forward)
    return {slope_name(pair): pair for pair in pairs if not _same_slope(pair, true)}


def _published(forward: Function) -> list[Surrogate]:
    published = [presets.get(name) for name in presets.names()]
    fitting = [pair for pair in published if type(pair.forward) is type(forward)]
    return [Surrogate(forward, pair.backward, pair.scale) for pair in fitting]


def _fitting(forward: Function) -> list[Surrogate]:
    if tables.is_flat(forward):
        return [Surrogate(forward, backward) for backward in _for_flat(forward)]
    ends = tables.limits(forward)
    if ends is None or tables.is_rectifier(forward):
        leaky = [functions.LeakyRelu(0.1), functions.LeakyRelu(0.3)]
        return [Surrogate(forward, one) for one in (*leaky, "softplus", "bsilu", "nelu")]
    own = Surrogate(forward, scale=round(1 / tables.largest_slope(forward), 2))
    names = ["tanh", "softsign", "hard_tanh"]
    if ends == (0.0, 1.0):
        names.append("flat_spot_sigmoid")
    return [own, *(Surrogate(forward, name) for name in names)]


def _for_flat(forward: Function) -> list[Function]:
    identity = functions.Linear()
    jumps = forward.jumps(_REACH)
    if jumps is not None and len(jumps) == 1:
        return [
            identity,
            functions.Boxcar(8.0),
            functions.Boxcar(4.0),
            functions.HardTanh(),
            functions.PiecewiseQuadratic(0.5),
            functions.PiecewiseQuadratic(1.0),
            functions.Atan(1.0),
            functions.Atan(2.0),
            functions.FastSigmoid(1.0),
            functions.FastSigmoid(5.0),
            functions.FastSigmoid(25.0),
        ]
    ends = tables.limits(forward)
    return [identity] if ends is None else [identity, functions.Clip(*ends)]


def slope_name(pair: Surrogate) -> str:
    """The name of a pair's slope: "tanh", "4 * sigmoid", "fast_sigmoid(k=5.0)"."""
    described = pair.backward.described
    return described if pair.scale == 1 else f"{pair.scale:g} * {described}"


def _same_slope(pair: Surrogate, other: Surrogate) -> bool:
    return pair.backward == other.backward and pair.scale == other.scale


def named_candidates(
    candidates: Iterable[SurrogateLike] | Mapping[str, SurrogateLike] | None, forward: Function
) -> dict[str, Surrogate]:
    """The candidates of an argument, as pairs with one forward, by name.

    Args:
        candidates: as in `recommend`.
        forward: the forward of the pairs.

    Raises:
        ValueError: no candidates, or an unknown one.
    """
    if candidates is None:
        return default_candidates(forward)
    is_one = isinstance(candidates, str | Surrogate | functions.Function) or callable(candidates)
    if is_one:
        candidates = [candidates]
    if not isinstance(candidates, Iterable):
        raise ValueError(
            "recommend: candidates must be a list or dictionary of slopes, such as "
            f"['softplus', 'leaky_backward'], but is {candidates!r}."
        )
    if isinstance(candidates, Mapping):
        found = {str(name): _pair(one, forward) for name, one in candidates.items()}
    else:
        pairs = [_pair(one, forward) for one in candidates]
        found = {slope_name(pair): pair for pair in pairs}
    if not found:
        raise ValueError(
            "recommend: candidates is empty. Name slopes, such as ['softplus'], or leave it out: "
            "then those that fit the forward are tried."
        )
    return found


def _pair(candidate: SurrogateLike, forward: Function) -> Surrogate:
    if isinstance(candidate, str) and candidate not in PAIRS and not functions.is_known(candidate):
        known = [*presets.names(), *functions.names()]
        near = difflib.get_close_matches(candidate, known, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"recommend: there is no slope {candidate!r} among the presets and functions.{hint} "
            "`keras-surrogate list` shows all names."
        )
    try:
        pair = presets.get(candidate)
    except (TypeError, ValueError) as error:
        raise ValueError(f"recommend: the candidate {candidate!r} is no slope: {error}") from error
    return Surrogate(forward, pair.backward, pair.scale)

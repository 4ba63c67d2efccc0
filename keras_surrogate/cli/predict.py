"""`keras-surrogate predict`: signal and gradients of an untrained network, from theory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_surrogate import functions, presets, surrogate, theory
from keras_surrogate.cli import console, outputs
from keras_surrogate.theory import verdicts
from keras_surrogate.theory.prediction import prepared

if TYPE_CHECKING:
    from rich.table import Table

    from keras_surrogate import Surrogate
    from keras_surrogate.theory.prediction import Network

_KEYS = (
    "forward, backward, scale, depth, width (null for infinity), verdict (sentences), "
    "gradient_ratio; layers: arrays over the layers, signal_variance, gradient_norm, alignment "
    "(null if undefined) and correlation; effect: {sgd, adam}, each helps, hurts or none, or null; "
    "balanced: {scale, verdict} or null; advice (sentences); ranking: a list of {name, scale, "
    "score, gradient_ratio, alignment, revives, share, reason}, the best first"
)


def add(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "predict",
        help="predict whether gradients vanish, explode or lose their direction",
        description="Predicts the signal, the gradient and its direction in each layer of a deep "
        "dense network with random weights, before any training. Ranks the slopes that fit the "
        "forward function, and gives advice.",
    )
    parser.set_defaults(command=_predict)
    parser.add_argument(
        "--forward",
        metavar="NAME",
        required=True,
        help="the function whose value is used, or a preset",
    )
    parser.add_argument(
        "--backward",
        metavar="NAME",
        help="the function whose slope is used (default: that of the forward function or preset)",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a factor of the slope (default: 1)"
    )
    parser.add_argument("--depth", type=int, default=20, help="number of layers (default: 20)")
    parser.add_argument("--width", type=int, help="units in each layer (default: infinity)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--initializer",
        metavar="NAME",
        help="Keras name of the weight initializer (default: glorot_uniform, as in Keras)",
    )
    weights.add_argument(
        "--weight-variance",
        metavar="VARIANCE",
        type=float,
        help="instead of --initializer: fan_in times the variance of the weights",
    )
    parser.add_argument(
        "--bias-variance",
        metavar="VARIANCE",
        type=float,
        default=0.0,
        help="variance of the biases (default: 0)",
    )
    parser.add_argument(
        "--input-variance",
        metavar="VARIANCE",
        type=float,
        default=1.0,
        help="mean square of the input (default: 1)",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="also draw gradient norm and alignment of each layer to this file",
    )
    console.add_json(parser, _KEYS)


@dataclasses.dataclass(frozen=True)
class _Balanced:
    """The pair with the scale at which the gradient keeps its size.

    pair: None if there is no such scale.
    words: the prediction for the pair, or the reason why there is none.
    """

    pair: Surrogate | None
    words: str


@dataclasses.dataclass(frozen=True)
class _Found:
    """The results of the command.

    effects: "helps", "hurts" or "none" for the optimizers "sgd" and "adam"; None if the slope is
        the true one.
    balanced: None if there is nothing to balance.
    """

    prediction: theory.Prediction
    effects: dict[str, str] | None
    balanced: _Balanced | None
    advice: theory.Recommendations


def _predict(options: dict[str, Any]) -> int:
    outputs.check_picture(options["plot"])
    with console.status("Predicting"):
        found = _found(options)
    if options["json"]:
        console.print_json(_as_dictionary(found))
    else:
        _print(found)
    if options["plot"]:
        outputs.write_picture(
            lambda _: _drawn(found.prediction), options["plot"], quiet=options["json"]
        )
    return 0


def _found(options: dict[str, Any]) -> _Found:
    pair = _pair(options)
    depth = options["depth"]
    weights = options["weight_variance"]
    if weights is None:
        weights = options["initializer"] or "glorot_uniform"
    known = {name: options[name] for name in ("width", "bias_variance", "input_variance")}
    # One forward pass serves all slopes.
    network = prepared(pair.forward, depth, weights, input_correlation=0.5, **known)
    prediction = network.predict(pair)

    true = surrogate.Surrogate(pair.forward)
    effects = None
    if pair != true:
        true_prediction = network.predict(true)
        # Adam rescales each layer's gradient, so that its size matters less.
        effects = {
            "sgd": theory.effect(prediction, true_prediction, rescaled=False),
            "adam": theory.effect(prediction, true_prediction, rescaled=True),
        }
    balanced = None
    if pair.backward != pair.forward or verdicts.gradient_is_off(prediction):
        balanced = _balanced(pair, network, weights, known)
    advice = theory.recommend(pair.forward, depth, weights, **known)
    return _Found(prediction, effects, balanced, advice)


def _pair(options: dict[str, Any]) -> Surrogate:
    forward = options["forward"]
    backward = options["backward"]
    if backward is None:
        return presets.get(forward).scaled(options["scale"])
    if forward in presets.names():
        raise ValueError(
            f"The preset {forward!r} has its own backward: leave out --backward, or name one of "
            f"the functions {', '.join(functions.names())} as --forward."
        )
    return surrogate.Surrogate(forward, backward, options["scale"])


def _balanced(
    pair: Surrogate, network: Network, weights: str | float, known: dict[str, Any]
) -> _Balanced:
    settings = {name: value for name, value in known.items() if name != "width"}
    try:
        balanced = theory.balance(pair, weights, **settings)
    except ValueError as error:
        return _Balanced(None, str(error))
    prediction = network.predict(balanced)
    words = f"{verdicts.gradient(prediction)} {verdicts.direction(prediction)}"
    return _Balanced(balanced, words)


_EFFECTS = {
    "helps": "should help training",
    "hurts": "should hurt training",
    "none": "should make no difference",
    "cannot tell": "may help or hurt training",
}


def _print(found: _Found) -> None:
    output = console.console()
    output.print(found.prediction.verdict)
    output.print(_layers(found.prediction))
    if found.effects:
        plain = _EFFECTS[found.effects["sgd"]]
        adam = _EFFECTS[found.effects["adam"]]
        output.print(
            f"Compared to the true slope it {plain} with plain SGD (learning rate 0.01) and {adam} "
            "with Adam."
        )
    if found.balanced:
        balance = ""
        if found.balanced.pair is not None:
            balance = f"Balanced, with scale={found.balanced.pair.scale:.3g}: "
        output.print(f"{balance}{found.balanced.words}")
    output.print(found.advice.advice)
    output.print(_ranks(found.advice))


def _as_dictionary(found: _Found) -> dict[str, Any]:
    prediction = found.prediction
    names = ("signal_variance", "gradient_norm", "alignment", "correlation")
    balanced = None
    if found.balanced:
        pair = found.balanced.pair
        scale = None if pair is None else pair.scale
        balanced = {"scale": scale, "verdict": found.balanced.words}
    return {
        "forward": prediction.surrogate.forward.title,
        "backward": prediction.surrogate.backward.title,
        "scale": prediction.surrogate.scale,
        "depth": prediction.depth,
        "width": prediction.width,
        "verdict": prediction.verdict,
        "gradient_ratio": prediction.gradient_ratio,
        "layers": {name: getattr(prediction, name) for name in names},
        "effect": found.effects,
        "balanced": balanced,
        "advice": found.advice.advice,
        "ranking": [_ranked(item) for item in found.advice.ranking],
    }


def _ranked(item: theory.Recommendation) -> dict[str, Any]:
    return {
        "name": item.name,
        "scale": item.surrogate.scale,
        "score": item.score,
        "gradient_ratio": item.prediction.gradient_ratio,
        "alignment": item.prediction.alignment,
        "revives": item.revives,
        "share": item.share,
        "reason": item.reason,
    }


def _layers(prediction: theory.Prediction) -> Table:
    numbers = (
        "signal variance",
        "gradient norm",
        "cosine with the true gradient",
        "correlation of two inputs",
    )
    title = f"{prediction.depth} layers of width {prediction.width or 'infinity'}"
    table = console.table(title, "layer", *numbers, right=numbers)
    # Five layers, evenly spread.
    for layer in np.unique(np.linspace(0, prediction.depth - 1, 5).astype(int)):
        variance = f"{prediction.signal_variance[layer]:.2g}"
        norm = f"{prediction.gradient_norm[layer]:.2g}"
        cosine = "undefined"
        if prediction.alignment is not None:
            cosine = f"{prediction.alignment[layer]:.2f}"
        correlation = f"{prediction.correlation[layer]:.4f}"
        table.add_row(str(layer + 1), variance, norm, cosine, correlation)
    return table


def _ranks(advice: theory.Recommendations) -> Table:
    table = console.table(
        "Slopes for this forward function, depth and initialisation", "", "backward", "reason"
    )
    for rank, item in enumerate(advice.ranking, 1):
        table.add_row(str(rank), item.name, item.reason)
    return table


def _drawn(prediction: theory.Prediction) -> Any:
    from keras_surrogate import plots
    from keras_surrogate.plots.axes import panels

    pair = prediction.surrogate
    label = f"{pair.forward.title}, slope of {pair.backward.title}"
    return plots.prediction({label: prediction}, panels(2))

"""`keras-surrogate predict`: what a derivative will do at a depth, before anything is trained."""

import dataclasses

import numpy as np

from keras_surrogate import functions, presets, surrogate, theory
from keras_surrogate.cli import console, pictures
from keras_surrogate.theory import verdicts

_KEYS = (
    "forward, backward, scale, depth, width (null for infinity), verdict (sentences), gradient_ratio; layers, arrays "
    "over the layers signal_variance, gradient_norm, alignment (null where it is undefined) and correlation; effect, "
    "{sgd, adam: helps, hurts or none} or null; balanced, {scale, verdict} or null; advice (sentences); ranking, a "
    "list of {name, scale, score, gradient_ratio, alignment, revives, share, reason}, the best first"
)


def add(commands):
    parser = commands.add_parser(
        "predict",
        help="say whether the gradient will vanish, explode or lose its direction",
        description="Predicts signal, gradient and its direction in an untrained network, and gives advice.",
    )
    parser.set_defaults(command=_predict)
    parser.add_argument(
        "--forward",
        required=True,
        help="the function that gives the value, or the name of a published pair",
    )
    parser.add_argument(
        "--backward",
        help="the function whose slope the backward pass takes (default: the forward's, or the pair's)",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies that slope (default: 1)"
    )
    parser.add_argument("--depth", type=int, default=20, help="layers (default: 20)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--initializer",
        help='of the weights, by its Keras name (default: "glorot_uniform", as in Keras)',
    )
    weights.add_argument(
        "--weight-variance",
        type=float,
        help="fan_in times the variance of the weights, in its place",
    )
    parser.add_argument(
        "--bias-variance", type=float, default=0.0, help="of the biases (default: 0)"
    )
    parser.add_argument(
        "--input-variance", type=float, default=1.0, help="mean square of the input (default: 1)"
    )
    parser.add_argument("--width", type=int, help="units of a layer (default: infinitely many)")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw gradient norm and alignment of every layer"
    )
    console.add_json(parser, _KEYS)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What the command finds out.

    effects: "helps", "hurts" or "none" by optimizer, "sgd" and "adam"; None for a function with its
        own slope.
    balanced: the pair, scaled so that the gradient keeps its size, and what becomes of it in words;
        or None and why there is none; or None where there is nothing to balance.
    """

    prediction: theory.Prediction
    effects: dict | None
    balanced: tuple | None
    advice: theory.Recommendations


def _predict(options):
    pictures.check(options["plot"])
    found = _found(options)
    if options["json"]:
        console.print_json(_as_dictionary(found))
    else:
        _print(found)
    if options["plot"]:
        pictures.write(_drawn(found.prediction), options["plot"], quiet=options["json"])
    return 0


def _found(options):
    pair = _pair(options)
    depth = options["depth"]
    weights = options["weight_variance"]
    weights = weights if weights is not None else options["initializer"] or "glorot_uniform"
    settings = {name: options[name] for name in ("bias_variance", "input_variance")}
    known = {"width": options["width"], **settings}
    prediction = theory.predict(pair, depth, weights, input_correlation=0.5, **known)
    true = surrogate.Surrogate(pair.forward)
    effects = None
    if pair != true:
        true_prediction = theory.predict(true, depth, weights, input_correlation=0.5, **known)
        effects = {
            optimizer: theory.effect(prediction, true_prediction, rescaled)
            for optimizer, rescaled in (("sgd", False), ("adam", True))
        }
    balanced = None
    if pair.backward != pair.forward or verdicts.gradient_is_off(prediction):
        balanced = _balanced(pair, depth, weights, known)
    advice = theory.recommend(pair.forward, depth, weights, **known)
    return _Found(prediction, effects, balanced, advice)


def _pair(options):
    forward, backward = options["forward"], options["backward"]
    if backward is None:
        return presets.get(forward).scaled(options["scale"])
    if forward in presets.names():
        raise ValueError(
            f"{forward!r} is a published pair and has its backward; name one of the functions {functions.names()}."
        )
    return surrogate.Surrogate(forward, backward, options["scale"])


def _balanced(pair, depth, weights, known):
    """The pair, balanced, or None; and what becomes of it in words, or why it cannot be balanced."""
    settings = {name: value for name, value in known.items() if name != "width"}
    try:
        balanced = theory.balance(pair, weights, **settings)
    except ValueError as error:
        return None, str(error)
    prediction = theory.predict(balanced, depth, weights, **known)
    return balanced, f"{verdicts.gradient(prediction)} {verdicts.direction(prediction)}"


_EFFECTS = {"helps": "help training", "hurts": "hurt training", "none": "make no difference"}


def _print(found):
    output = console.console()
    output.print(found.prediction.verdict)
    output.print(_layers(found.prediction))
    if found.effects:
        plain, rescaled = (_EFFECTS[found.effects[optimizer]] for optimizer in ("sgd", "adam"))
        output.print(
            f"Beside the true slope it should {plain} under plain SGD and {rescaled} under Adam."
        )
    if found.balanced:
        pair, words = found.balanced
        output.print(words if pair is None else f"Balanced, with scale={pair.scale:.3g}: {words}")
    output.print(found.advice.advice)
    output.print(_ranks(found.advice))


def _as_dictionary(found):
    prediction = found.prediction
    names = ("signal_variance", "gradient_norm", "alignment", "correlation")
    balanced = None
    if found.balanced:
        pair, words = found.balanced
        balanced = {"scale": None if pair is None else pair.scale, "verdict": words}
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


def _ranked(item):
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


def _layers(prediction):
    numbers = (
        "signal variance",
        "gradient norm",
        "cosine with the true gradient",
        "correlation of two inputs",
    )
    title = f"{prediction.depth} layers of width {prediction.width or 'infinity'}"
    table = console.table(title, "layer", *numbers, right=numbers)
    for layer in np.unique(np.linspace(0, prediction.depth - 1, 5).astype(int)):
        variance = f"{prediction.signal_variance[layer]:.2g}"
        norm = f"{prediction.gradient_norm[layer]:.2g}"
        cosine = (
            "undefined" if prediction.alignment is None else f"{prediction.alignment[layer]:.2f}"
        )
        table.add_row(
            str(layer + 1), variance, norm, cosine, f"{prediction.correlation[layer]:.4f}"
        )
    return table


def _ranks(advice):
    table = console.table(
        "Slopes for this forward, depth and initialization", "", "backward", "why"
    )
    for rank, item in enumerate(advice.ranking, 1):
        table.add_row(str(rank), item.name, item.reason)
    return table


def _drawn(prediction):
    from keras_surrogate import plots
    from keras_surrogate.plots.axes import panels

    pair = prediction.surrogate
    label = f"{pair.forward.title}, slope of {pair.backward.title}"
    return plots.prediction({label: prediction}, panels(2))

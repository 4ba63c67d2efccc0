"""`keras-surrogate predict`: what a derivative will do at a depth, before anything is trained."""

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_surrogate import files, functions, presets, surrogate, theory
from keras_surrogate.theory import verdicts


def add(commands):
    parser = commands.add_parser(
        "predict",
        help="say whether the gradient will vanish, explode or lose its direction",
        description="Predicts signal, gradient and its direction in an untrained network, and gives advice.",
    )
    parser.set_defaults(command=_predict)
    parser.add_argument(
        "--forward", required=True, help="the function that gives the value, or the name of a published pair"
    )
    parser.add_argument(
        "--backward", help="the function whose slope the backward pass takes (default: the forward's, or the pair's)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies that slope (default: 1)")
    parser.add_argument("--depth", type=int, default=20, help="layers (default: 20)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--initializer", help='of the weights, by its Keras name (default: "glorot_uniform", as in Keras)'
    )
    weights.add_argument("--weight-variance", type=float, help="fan_in times the variance of the weights, in its place")
    parser.add_argument("--bias-variance", type=float, default=0.0, help="of the biases (default: 0)")
    parser.add_argument("--input-variance", type=float, default=1.0, help="mean square of the input (default: 1)")
    parser.add_argument("--width", type=int, help="units of a layer (default: infinitely many)")
    parser.add_argument("--plot", metavar="FILE", help="draw gradient norm and alignment of every layer")


def _predict(options):
    pair = _pair(options)
    weights = options["weight_variance"]
    weights = weights if weights is not None else options["initializer"] or "glorot_uniform"
    settings = {name: options[name] for name in ("bias_variance", "input_variance")}
    known = {"width": options["width"], "input_correlation": 0.5, **settings}
    prediction = theory.predict(pair, options["depth"], weights, **known)
    console = Console()
    console.print(prediction.verdict, highlight=False)
    console.print(_layers(prediction))
    true = surrogate.Surrogate(pair.forward)
    if pair != true:
        console.print(_effect(prediction, theory.predict(true, options["depth"], weights, **known)), highlight=False)
    if pair.backward != pair.forward or verdicts.gradient_is_off(prediction):
        console.print(_balanced(pair, weights, options, settings), highlight=False)
    advice = theory.recommend(pair.forward, options["depth"], weights, width=options["width"], **settings)
    console.print(advice.advice, highlight=False)
    console.print(_ranks(advice))
    if options["plot"]:
        _plot(prediction, options["plot"])
    return 0


def _pair(options):
    forward, backward = options["forward"], options["backward"]
    if backward is None:
        return presets.get(forward).scaled(options["scale"])
    if forward in presets.names():
        raise ValueError(
            f"{forward!r} is a published pair and has its backward; name one of the functions {functions.names()}."
        )
    return surrogate.Surrogate(forward, backward, options["scale"])


def _effect(prediction, true):
    """What becomes of training."""
    plain, rescaled = (_EFFECTS[theory.effect(prediction, true, rescaled)] for rescaled in (False, True))
    return f"Beside the true slope it should {plain} under plain SGD and {rescaled} under Adam."


_EFFECTS = {"helps": "help training", "hurts": "hurt training", "none": "make no difference"}


def _balanced(pair, weights, options, settings):
    """What becomes of the pair itself, once balanced."""
    try:
        balanced = theory.balance(pair, weights, **settings)
    except ValueError as error:
        return str(error)
    prediction = theory.predict(balanced, options["depth"], weights, width=options["width"], **settings)
    return (
        f"Balanced, with scale={balanced.scale:.3g}: {verdicts.gradient(prediction)} {verdicts.direction(prediction)}"
    )


def _layers(prediction):
    table = Table("layer", title=f"{prediction.depth} layers of width {prediction.width or 'infinity'}")
    for heading in ("signal variance", "gradient norm", "cosine with the true gradient", "correlation of two inputs"):
        table.add_column(heading, justify="right")
    for layer in np.unique(np.linspace(0, prediction.depth - 1, 5).astype(int)):
        cosine = "undefined" if prediction.alignment is None else f"{prediction.alignment[layer]:.2f}"
        numbers = prediction.signal_variance[layer], prediction.gradient_norm[layer]
        cells = [f"{number:.2g}" for number in numbers]
        table.add_row(str(layer + 1), *cells, cosine, f"{prediction.correlation[layer]:.4f}")
    return table


def _ranks(advice):
    table = Table("", "backward", "why", title="Slopes for this forward, depth and initialization")
    for rank, item in enumerate(advice.ranking, 1):
        table.add_row(str(rank), item.name, item.reason)
    return table


def _plot(prediction, output):
    from keras_surrogate import plots

    ax = plots.prediction(
        {f"{prediction.surrogate.forward.title}, slope of {prediction.surrogate.backward.title}": prediction}
    )
    with files.replacing_file(output) as unfinished:
        ax.figure.savefig(unfinished, dpi=160)
    print(f"Written to {output}.")

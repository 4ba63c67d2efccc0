"""`keras-surrogate recommend`: the slope for a saved model."""

from __future__ import annotations

from typing import Any

from keras_surrogate.cli import batches, console, loading

_KEYS = (
    "of Recommended.to_dict(): model, the name; places, the activations whose slope was changed; "
    "verdict (sentences); best, the name of the first option; options, a list with the fields of "
    "diagnosis.Option, the best first"
)


def add(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "recommend",
        help="find the slope for a saved model, or whether it needs none",
        description="Measures slopes in a saved model on one batch, without training it: the size "
        "of the gradient, its direction, and one step of the optimizer. Ranks them beside the true "
        "slope, other initial weights, normalisation, calibrated scales and learning rates for "
        "each layer, and says what to do. The model must be compiled, and the data need targets.",
    )
    parser.set_defaults(command=_recommend)
    batches.add_options(parser)
    parser.add_argument(
        "--candidates",
        metavar="NAMES",
        help="functions or presets whose slopes are tried, separated by commas (default: those "
        "that fit the model's activation)",
    )
    parser.add_argument(
        "--layers",
        metavar="PATTERNS",
        help="names or patterns of the layers whose slope may change, separated by commas "
        "(default: all)",
    )
    console.add_json(parser, _KEYS)
    loading.add_options(parser)


def _recommend(options: dict[str, Any]) -> int:
    batches.check(options)
    model = loading.loaded(options["model"], options)
    x, y = batches.first(options, model)
    from keras_surrogate import diagnosis

    with console.status(f"Measuring slopes in {options['model']}"):
        result = diagnosis.recommend(
            model, x, y, _listed(options["candidates"]), _listed(options["layers"])
        )
    if options["json"]:
        console.print_json(result.to_dict())
    else:
        result.print(console.console())
    return 0


def _listed(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]

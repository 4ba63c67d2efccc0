"""`keras-surrogate diagnose`: the diagnosis of a saved model."""

from __future__ import annotations

from typing import Any

from keras_surrogate.cli import batches, console, loading, outputs

_KEYS = (
    "of Diagnosis.to_dict(): model, the name; batch, facts about the inputs; rows, a list with the "
    "fields of diagnosis.Row for each layer; findings, a list with the fields of diagnosis.Finding"
)


def add(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "diagnose",
        help="find out what hinders the training of a saved model",
        description="Examines a saved model on one batch, without training it: signal, dead and "
        "saturated units, gradients, their direction, and the size of the next optimizer step. "
        "Prints the findings layer by layer, with advice. If the model is compiled and the data "
        "has targets, the gradients are those of its loss.",
    )
    parser.set_defaults(command=_diagnose)
    batches.add_options(parser)
    parser.add_argument(
        "--plot", metavar="FILE", help="also draw signal and gradients of each layer to this file"
    )
    parser.add_argument(
        "--depth",
        type=int,
        default=1,
        help="levels of layers within layers, such as the blocks of a transformer, that get rows "
        "of their own (default: 1, none)",
    )
    console.add_json(parser, _KEYS)
    loading.add_options(parser)


def _diagnose(options: dict[str, Any]) -> int:
    batches.check(options)
    outputs.check_picture(options["plot"])
    model = loading.loaded(options["model"], options)
    x, y = batches.first(options, model)
    from keras_surrogate import diagnosis

    has_loss = model.compiled and model.loss is not None
    y = y if has_loss else None
    with console.status(f"Examining {options['model']}"):
        result = diagnosis.diagnose(model, x, y, depth=options["depth"])
    if options["json"]:
        console.print_json(result.to_dict())
    else:
        result.print(console.console())
    if options["plot"]:
        outputs.write_picture(
            lambda plots: plots.diagnosis(result), options["plot"], quiet=options["json"]
        )
    return 0

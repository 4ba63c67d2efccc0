"""`keras-surrogate diagnose`: a second opinion on a saved model."""

from pathlib import Path

import numpy as np

from keras_surrogate import datasets
from keras_surrogate.cli import arrays, console, loading, pictures

_KEYS = (
    "what Diagnosis.to_dict() returns: model, its name; batch, the numbers of the inputs; rows, a list of the layers "
    "with their numbers, called as the fields of diagnosis.Row; findings, a list, called as those of diagnosis.Finding"
)


def add(commands):
    parser = commands.add_parser(
        "diagnose",
        help="say what hinders a saved model's training, layer by layer",
        description="Looks at one batch, without training: signal, dead and saturated units, gradients, their "
        "direction and the optimizer's next step, and what to change. If the model is compiled and there are targets, "
        "the gradients are those of its loss.",
    )
    parser.set_defaults(command=_diagnose)
    parser.add_argument("model", help="the model's file, .keras")
    names = ", ".join(datasets.names())
    parser.add_argument(
        "--data", required=True, help=f"a file: {arrays.HELP}; or {names}, the names of data sets"
    )
    parser.add_argument("--targets", help=arrays.TARGETS_HELP)
    parser.add_argument(
        "--batch", type=int, default=256, help="how many examples, from the first on (default: 256)"
    )
    parser.add_argument(
        "--depth",
        type=int,
        default=1,
        help="how far to look into layers that hold layers, such as the blocks of a transformer: 2 "
        "gives the layers in them rows of their own (default: 1)",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw signal and gradient of every layer")
    console.add_json(parser, _KEYS)
    loading.add_options(parser)


def _diagnose(options):
    if options["batch"] < 1:
        raise ValueError(f"--batch must be at least 1, but is {options['batch']}.")
    pictures.check(options["plot"])
    model = loading.loaded(options["model"], options)
    x, y = _batch(options, model)
    from keras_surrogate import diagnosis

    y = y if model.compiled and model.loss is not None else None
    result = diagnosis.diagnose(model, x, y, depth=options["depth"])
    if options["json"]:
        console.print_json(result.to_dict())
    else:
        result.print(console.console())
    if options["plot"]:
        _plot(result, options["plot"], quiet=options["json"])
    return 0


def _batch(options, model):
    """The first examples, and their targets or None; a data set and the rows of a .csv in the model's shape."""
    data = options["data"]
    size = options["batch"]
    suffix = Path(data).suffix
    if suffix in arrays.SUFFIXES:
        names = _input_names(model)
        x, y = arrays.read(data, options["targets"], size, names)
        if suffix == ".csv":
            x = _fitted(x, model)
        elif isinstance(x, list) and _has_dictionary(model):
            x = dict(zip(names, x, strict=False))
        return x, y
    if options["targets"] is not None:
        raise ValueError("--targets goes with a file; a data set has its own.")
    loaded = datasets.load(data)
    return _fitted(loaded.x_train[:size], model), loaded.y_train[:size]


def _input_names(model):
    """The names of the model's inputs; empty where it has no symbolic ones, as a model of a class of one's own."""
    if _has_dictionary(model):
        return sorted(model.input)
    return [tensor.name for tensor in getattr(model, "inputs", None) or []]


def _has_dictionary(model):
    """Whether the model takes its inputs as a dictionary."""
    return isinstance(getattr(model, "input", None), dict)


def _fitted(x, model):
    """The examples in the shape that the model takes, if it is known and has as many numbers."""
    shape = getattr(model, "input_shape", None)
    fits = (
        isinstance(shape, tuple)
        and None not in shape[1:]
        and np.prod(shape[1:]) == np.prod(x.shape[1:])
    )
    return x.reshape(-1, *shape[1:]) if fits else x


def _plot(result, output, quiet):
    from keras_surrogate import plots

    pictures.write(plots.diagnosis(result), output, quiet=quiet)

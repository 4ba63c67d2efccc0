"""`keras-surrogate diagnose`: a second opinion on a saved model."""

import zipfile
from pathlib import Path

import numpy as np

from keras_surrogate import datasets, files
from keras_surrogate.cli import models


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
    parser.add_argument(
        "--data", required=True, help=f"a file .npz with arrays x and, if you like, y; or {', '.join(datasets.names())}"
    )
    parser.add_argument("--batch", type=int, default=256, help="how many examples, from the first on (default: 256)")
    parser.add_argument("--plot", metavar="FILE", help="draw signal and gradient of every layer")
    models.add_unsafe(parser)


def _diagnose(options):
    if options["batch"] < 1:
        raise ValueError(f"--batch must be at least 1, but is {options['batch']}.")
    if options["plot"]:
        files.check_writable(options["plot"])
    model = models.loaded(options["model"], options["unsafe"])
    x, y = _batch(options["data"], options["batch"], getattr(model, "input_shape", None))
    from keras_surrogate import diagnosis

    result = diagnosis.diagnose(model, x, y if model.compiled and model.loss is not None else None)
    result.print()
    if options["plot"]:
        _plot(result, options["plot"])
    return 0


def _batch(data, size, shape):
    """The first examples, and their targets or None; images of a data set in the shape that the model takes."""
    if Path(data).suffix == ".npz":
        x, y = _arrays(data)
        return x[:size], None if y is None else y[:size]
    loaded = datasets.load(data)
    x = loaded.x_train[:size]
    if isinstance(shape, tuple) and None not in shape[1:] and np.prod(shape[1:]) == np.prod(x.shape[1:]):
        x = x.reshape(-1, *shape[1:])
    return x, loaded.y_train[:size]


def _arrays(path):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as an .npz file of numbers: {error}") from error
    if "x" not in found:
        raise ValueError(
            f"{path} has the arrays {sorted(found)}, but none that is called x: np.savez({path!r}, x=x, y=y)."
        )
    return found["x"], found.get("y")


def _plot(result, output):
    from keras_surrogate import plots

    ax = plots.diagnosis(result)
    with files.replacing_file(output) as unfinished:
        ax.figure.savefig(unfinished, dpi=160)
    print(f"Written to {output}.")

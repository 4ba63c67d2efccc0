"""`keras-surrogate swap` and `keras-surrogate strip`: from one model file to another."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_surrogate import conversion, files
from keras_surrogate.cli import console, loading, outputs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    import keras


def add(commands: console.Commands) -> None:
    _add_swap(commands)
    _add_strip(commands)


def _add_swap(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "swap",
        help="give the activations of a saved model surrogate slopes",
        description="Writes a copy of a saved model whose activations have other slopes. Its "
        "outputs are the same. For several activations, repeat --activation and --surrogate in "
        "pairs.",
    )
    _add_files(parser, _swap)
    parser.add_argument(
        "--activation",
        metavar="NAME",
        action="append",
        required=True,
        help='the activation to change, such as "relu"',
    )
    parser.add_argument(
        "--surrogate",
        metavar="NAME",
        action="append",
        required=True,
        help='the preset or function whose slope it gets, such as "leaky_backward"',
    )
    parser.add_argument(
        "--layers",
        metavar="NAME",
        action="append",
        help='change only layers with this name, path or pattern, such as "conv*"; may be repeated',
    )


def _add_strip(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "strip",
        help="remove the surrogates from a saved model",
        description="Writes a copy of a saved model in plain Keras, which loads without this "
        "package. Its outputs are the same.",
    )
    _add_files(parser, _strip)


def _add_files(parser: argparse.ArgumentParser, command: Callable[[dict[str, Any]], int]) -> None:
    parser.set_defaults(command=command)
    parser.add_argument("input", help="the .keras file to read")
    parser.add_argument("output", help="the .keras file to write")
    parser.add_argument("--force", action="store_true", help="overwrite the output if it exists")
    loading.add_options(parser)


def _swap(options: dict[str, Any]) -> int:
    activations = options["activation"]
    surrogates = options["surrogate"]
    if len(activations) != len(surrogates) or len(set(activations)) != len(activations):
        raise ValueError("Give one --surrogate for each --activation, and each --activation once.")
    mapping = dict(zip(activations, surrogates, strict=True))

    def swapped(model: keras.Model) -> keras.Model:
        return conversion.swap(model, mapping, layers=options["layers"])

    return _converted(options, swapped)


def _strip(options: dict[str, Any]) -> int:
    return _converted(options, conversion.strip)


def _converted(options: dict[str, Any], convert: Callable[[keras.Model], keras.Model]) -> int:
    output = options["output"]
    outputs.check(output, ".keras")
    if Path(output).exists() and not options["force"]:
        raise ValueError(f"{output} exists already; --force overwrites it.")
    model = loading.loaded(options["input"], options)
    with console.status(f"Converting {options['input']}"), warnings.catch_warnings():
        # The report says the same.
        warnings.filterwarnings("ignore", message=".* not reached")
        converted = convert(model)
    with console.status(f"Writing {output}"), files.replacing_file(output) as unfinished:
        converted.save(unfinished)
    print(conversion.report(converted))
    print(f"Written to {output}.")
    return 0

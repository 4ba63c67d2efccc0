"""`keras-surrogate swap` and `keras-surrogate strip`: from one model file to another."""

import textwrap
import warnings
from pathlib import Path

import keras

from keras_surrogate import conversion, files


def add(commands):
    _add_swap(commands)
    _add_strip(commands)


def _add_swap(commands):
    parser = commands.add_parser(
        "swap",
        help="give activations of a saved model the slopes of surrogates",
        description="Writes a copy of a saved model, with the same outputs, whose activations have other slopes. "
        "Several activations: repeat --activation and --surrogate in pairs.",
    )
    _add_files(parser, _swap)
    parser.add_argument("--activation", action="append", required=True, help='which activation, such as "relu"')
    parser.add_argument("--surrogate", action="append", required=True, help='whose slope, such as "leaky_backward"')
    parser.add_argument("--layers", action="append", help='only layers of this name, path or pattern, such as "conv*"')


def _add_strip(commands):
    parser = commands.add_parser(
        "strip",
        help="take the surrogates out of a saved model again",
        description="Writes a copy of a saved model in plain Keras, with the same outputs.",
    )
    _add_files(parser, _strip)


def _add_files(parser, command):
    parser.set_defaults(command=command)
    parser.add_argument("input", help="the model's file, .keras")
    parser.add_argument("output", help="the file to write, .keras")
    parser.add_argument("--force", action="store_true", help="overwrite the output if it exists")
    add_unsafe(parser)


def add_unsafe(parser):
    """The option that `loaded` takes."""
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="load Python code that the file holds (Lambda layers) as well: it can do anything that you can do on this "
        "machine, so only for files from people you trust",
    )


def _swap(options):
    activations, surrogates = options["activation"], options["surrogate"]
    if len(activations) != len(surrogates) or len(set(activations)) != len(activations):
        raise ValueError("Give one --surrogate for each --activation, and each --activation once.")
    mapping = dict(zip(activations, surrogates, strict=True))
    return _converted(options, lambda model: conversion.swap(model, mapping, layers=options["layers"]))


def _strip(options):
    return _converted(options, conversion.strip)


def _converted(options, convert):
    _check_output(options["output"], options["force"])
    model = loaded(options["input"], options["unsafe"])
    with warnings.catch_warnings():
        # They are in the report.
        warnings.filterwarnings("ignore", message=".* not reached")
        converted = convert(model)
    with files.replacing_file(options["output"]) as unfinished:
        converted.save(unfinished)
    print(conversion.report(converted))
    print(f"Written to {options['output']}.")
    return 0


def _check_output(output, force):
    if Path(output).suffix != ".keras":
        raise ValueError(f"{output}: the output must be a .keras file.")
    if Path(output).exists() and not force:
        raise ValueError(f"{output} exists already; --force overwrites it.")


def loaded(path, unsafe):
    if not Path(path).is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        return keras.saving.load_model(path, safe_mode=not unsafe)
    except Exception as error:
        hint = "" if unsafe else " If it holds Python code and comes from people you trust, --unsafe loads it."
        raise ValueError(f"{path} cannot be loaded: {_reason(error)}{hint}") from error


def _reason(error):
    """The first line of the first error, about which Keras wraps others that repeat whole configurations."""
    while error.__context__ is not None:
        error = error.__context__
    return textwrap.shorten((str(error).strip().splitlines() or [type(error).__name__])[0], 300)

"""`keras-surrogate swap` and `keras-surrogate strip`: from one model file to another."""

import warnings
from pathlib import Path

from keras_surrogate import conversion, files
from keras_surrogate.cli import loading


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
    parser.add_argument(
        "--activation", action="append", required=True, help='which activation, such as "relu"'
    )
    parser.add_argument(
        "--surrogate", action="append", required=True, help='whose slope, such as "leaky_backward"'
    )
    parser.add_argument(
        "--layers",
        action="append",
        help='only layers of this name, path or pattern, such as "conv*"',
    )


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
    loading.add_options(parser)


def _swap(options):
    activations, surrogates = options["activation"], options["surrogate"]
    if len(activations) != len(surrogates) or len(set(activations)) != len(activations):
        raise ValueError("Give one --surrogate for each --activation, and each --activation once.")
    mapping = dict(zip(activations, surrogates, strict=True))
    return _converted(
        options, lambda model: conversion.swap(model, mapping, layers=options["layers"])
    )


def _strip(options):
    return _converted(options, conversion.strip)


def _converted(options, convert):
    _check_output(options["output"], options["force"])
    model = loading.loaded(options["input"], options)
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
    files.check_writable(output)

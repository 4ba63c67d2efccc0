"""`keras-surrogate list` and `keras-surrogate plot`: the collection."""

import dataclasses
import inspect

from keras_surrogate import functions, presets, surrogate
from keras_surrogate.cli import console, pictures

_KEYS = (
    "functions, a list of {name, value, slope, parameters: {its name: {default, range}}, source, documentation}; "
    "presets, a list of {name, forward, backward, scale, parameters: {its name: default}, documentation}"
)


def add(commands):
    _add_list(commands)
    _add_plot(commands)


def _add_list(commands):
    parser = commands.add_parser(
        "list",
        help="print the collection of functions and the published pairs",
        description="Prints all functions and published pairs, or one with everything that its documentation says.",
    )
    parser.set_defaults(command=_list)
    parser.add_argument(
        "name", nargs="?", help="a function or a published pair, such as bsilu (default: all)"
    )
    console.add_json(parser, _KEYS)


def _list(options):
    name = options["name"]
    function_names = functions.names()
    preset_names = presets.names()
    if name is not None:
        function_names = [name] if name in function_names else []
        preset_names = [name] if name in preset_names else []
    if not function_names and not preset_names:
        raise functions.unknown_name(
            "function or preset", name, functions.names() + presets.names()
        )
    found_functions = [_function_facts(one) for one in function_names]
    found_presets = [_preset_facts(one) for one in preset_names]
    if options["json"]:
        console.print_json({"functions": found_functions, "presets": found_presets})
    elif name is None:
        console.console().print(_functions(found_functions), _presets(found_presets))
    else:
        console.console().print(
            "\n\n".join(_details(facts) for facts in found_functions + found_presets)
        )
    return 0


def _function_facts(name):
    function = functions.get(name)
    return {
        "name": name,
        "value": function.documented("value"),
        "slope": function.documented("slope"),
        "parameters": {
            field.name: {
                "default": getattr(function, field.name),
                "range": field.metadata["meaning"],
            }
            for field in dataclasses.fields(function)
        },
        "source": function.documented("Source"),
        "documentation": inspect.getdoc(type(function)),
    }


def _preset_facts(name):
    make = getattr(presets, name)
    pair = make()
    parameters = inspect.signature(make).parameters.values()
    return {
        "name": name,
        "forward": _named(pair.forward),
        "backward": _named(pair.backward),
        "scale": pair.scale,
        "parameters": {parameter.name: parameter.default for parameter in parameters},
        "documentation": inspect.getdoc(make),
    }


def _named(function):
    """The name of a function with its parameters: "sign(at_zero=1.0)"."""
    values = [
        f"{field.name}={getattr(function, field.name)}" for field in dataclasses.fields(function)
    ]
    return f"{function.title}({', '.join(values)})" if values else function.title


def _functions(found):
    table = console.table("Functions", "function", "value", "defaults", "source", lines=True)
    for facts in found:
        defaults = [
            f"{name}={parameter['default']}" for name, parameter in facts["parameters"].items()
        ]
        table.add_row(facts["name"], facts["value"], ", ".join(defaults), facts["source"])
    return table


def _presets(found):
    table = console.table("Published pairs", "preset", "value of", "slope of")
    for facts in found:
        table.add_row(facts["name"], facts["forward"], _slope(facts))
    return table


def _slope(facts):
    return (
        facts["backward"]
        if facts["scale"] == 1
        else f"{facts['scale']:g} times {facts['backward']}"
    )


def _details(facts):
    """A heading and the documentation, which has value, slope, parameters with ranges and defaults, and the source."""
    if "forward" in facts:
        heading = f"{facts['name']}, a published pair: value of {facts['forward']}, slope of {_slope(facts)}"
    else:
        heading = f"{facts['name']}, a function"
    return f"{heading}\n\n{facts['documentation']}"


def _add_plot(commands):
    parser = commands.add_parser(
        "plot", help="draw value, true slope and surrogate slope of a pair"
    )
    parser.set_defaults(command=_plot)
    parser.add_argument(
        "forward", help="the function that gives the value, or the name of a published pair"
    )
    parser.add_argument(
        "backward", nargs="?", help="the function whose slope the backward pass takes"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies that slope (default: 1)"
    )
    parser.add_argument("--output", help="the picture's file (default: FORWARD-BACKWARD.png)")


def _plot(options):
    forward, backward = options["forward"], options["backward"]
    pair = presets.get(forward) if backward is None else surrogate.Surrogate(forward, backward)
    output = options["output"] or "-".join(filter(None, [forward, backward])) + ".png"
    pictures.check(output)
    from keras_surrogate import plots

    pictures.write(plots.surrogate(pair.scaled(options["scale"])), output)
    return 0

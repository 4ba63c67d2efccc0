"""`keras-surrogate list` and `keras-surrogate plot`: functions and presets."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from keras_surrogate import functions, presets, surrogate
from keras_surrogate.cli import console, outputs

if TYPE_CHECKING:
    from rich.table import Table

    from keras_surrogate.functions import Function

_KEYS = (
    "functions: a list of {name, value, slope, parameters: {its name: {default, range}}, source, "
    "documentation}; presets: a list of {name, forward, backward, scale, parameters: "
    "{its name: default}, documentation}"
)


def add(commands: console.Commands) -> None:
    _add_list(commands)
    _add_plot(commands)


def _add_list(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "list",
        help="print the functions and presets",
        description="Prints a table of all functions and presets; or, for one name, the complete "
        "documentation.",
    )
    parser.set_defaults(command=_list)
    parser.add_argument(
        "name", nargs="?", help="a function or preset, such as bsilu or sugar_bsilu (default: all)"
    )
    console.add_json(parser, _KEYS)


def _list(options: dict[str, Any]) -> int:
    name = options["name"]
    function_names = functions.names()
    preset_names = presets.names()
    if name is not None:
        function_names = [one for one in function_names if one == name]
        preset_names = [one for one in preset_names if one == name]
    if not function_names and not preset_names:
        known = functions.names() + presets.names()
        raise functions.unknown_name("function or preset", name, known)
    found_functions = [_function_facts(one) for one in function_names]
    found_presets = [_preset_facts(one) for one in preset_names]
    if options["json"]:
        console.print_json({"functions": found_functions, "presets": found_presets})
    elif name is None:
        console.console().print(_functions(found_functions), _presets(found_presets))
    else:
        details = [_details(facts) for facts in found_functions + found_presets]
        console.console().print("\n\n".join(details))
    return 0


def _function_facts(name: str) -> dict[str, Any]:
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


def _preset_facts(name: str) -> dict[str, Any]:
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


def _named(function: Function) -> str:
    """The name of a function with its parameters, such as "sign(at_zero=1.0)"."""
    fields = dataclasses.fields(function)
    values = [f"{field.name}={getattr(function, field.name)}" for field in fields]
    return f"{function.title}({', '.join(values)})" if values else function.title


def _functions(found: list[dict[str, Any]]) -> Table:
    table = console.table("Functions", "function", "value", "defaults", "source", lines=True)
    for facts in found:
        parameters = facts["parameters"].items()
        defaults = [f"{name}={parameter['default']}" for name, parameter in parameters]
        table.add_row(facts["name"], facts["value"], ", ".join(defaults), facts["source"])
    return table


def _presets(found: list[dict[str, Any]]) -> Table:
    table = console.table("Presets", "preset", "value of", "slope of")
    for facts in found:
        table.add_row(facts["name"], facts["forward"], _slope(facts))
    return table


def _slope(facts: dict[str, Any]) -> str:
    if facts["scale"] == 1:
        return facts["backward"]
    return f"{facts['scale']:g} times {facts['backward']}"


def _details(facts: dict[str, Any]) -> str:
    """A heading and the documentation."""
    name = facts["name"]
    if "forward" in facts:
        heading = f"{name}, a preset: value of {facts['forward']}, slope of {_slope(facts)}"
    else:
        heading = f"{name}, a function"
    return f"{heading}\n\n{facts['documentation']}"


def _add_plot(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "plot",
        help="draw the value and both slopes of a surrogate",
        description="Draws the value, the true slope and the surrogate slope over [-4, 4].",
    )
    parser.set_defaults(command=_plot)
    parser.add_argument("forward", help="the function whose value is used, or a preset")
    parser.add_argument(
        "backward", nargs="?", help="the function whose slope is used; leave it out for a preset"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a factor of the slope (default: 1)"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the picture to write (default: FORWARD-BACKWARD.png)"
    )


def _plot(options: dict[str, Any]) -> int:
    forward = options["forward"]
    backward = options["backward"]
    if backward is None:
        pair = presets.get(forward)
        name = forward
    else:
        pair = surrogate.Surrogate(forward, backward)
        name = f"{forward}-{backward}"
    output = options["output"] or f"{name}.png"
    outputs.check_picture(output)
    scaled = pair.scaled(options["scale"])
    outputs.write_picture(lambda plots: plots.surrogate(scaled), output)
    return 0

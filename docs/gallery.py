"""The gallery: every published pair and every function, with picture, formulas and source.

`hooks.py` makes a page of it when mkdocs builds the site. This file does not need mkdocs.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import re

import matplotlib.pyplot as plt

import keras_surrogate as ks


def picture(pair: ks.Surrogate) -> str:
    """An SVG picture of a pair."""
    _, ax = plt.subplots(figsize=(4, 2.6), layout="constrained")
    ks.plots.surrogate(pair, ax)
    # The page says what the lines are.
    ax.get_legend().remove()
    with io.StringIO() as text:
        # Without the date, so that equal pictures are equal files.
        ax.figure.savefig(text, format="svg", metadata={"Date": None})
        plt.close(ax.figure)
        return text.getvalue()


def page() -> str:
    """The page of all presets and functions, each with picture, formulas, defaults and source."""
    lines = [
        "# Gallery",
        "",
        "Every pair and every function of the collection. The black line is the value, the dashed "
        "blue line its own slope, the red line the slope of the backward pass.",
        "",
        "## Published pairs",
        "",
        *preset_table(),
        "",
        "Any two functions make a surrogate: `ks.Surrogate(forward, backward, scale=1.0)`.",
        "",
    ]
    for name in ks.presets.names():
        pair = ks.get(name)
        lines += [
            f"### `{name}` {{#preset-{name}}}",
            "",
            first_paragraph(getattr(ks.presets, name)),
        ]
        lines += ["", f"![value and slopes of {name}](pictures/preset-{name}.svg)", ""]
        lines += [f"* `ks.get({name!r})`, the same as `{_written(pair)}`"]
        lines += [f"* value: `{pair.forward.documented('value')}`"]
        lines += [f"* slope: {_factor(pair)}`{pair.backward.documented('slope')}`"]
        lines += [f"* source: {_source(getattr(ks.presets, name))}", ""]
    lines += ["## Functions", ""]
    for name in ks.functions.names():
        function = ks.functions.get(name)
        lines += [f"### `{name}` {{#function-{name}}}", "", first_paragraph(type(function))]
        lines += ["", f"![value and slope of {name}](pictures/function-{name}.svg)", ""]
        lines += [f"* value: `{function.documented('value')}`"]
        lines += [f"* slope: `{function.documented('slope')}`"]
        defaults = dataclasses.asdict(function)
        if defaults:
            told = ", ".join(f"`{key}={value}`" for key, value in defaults.items())
            lines += [f"* defaults: {told}"]
        source = _source(type(function))
        if source:
            lines += [f"* source: {source}"]
        lines += [""]
    return "\n".join(lines)


def preset_table() -> list[str]:
    """The lines of the table of all presets, each with value, slope and source."""
    lines = [
        "| `ks.get(name)` | value | slope in the backward pass | source |",
        "|---|---|---|---|",
    ]
    for name in ks.presets.names():
        pair = ks.get(name)
        documentation = inspect.getdoc(getattr(ks.presets, name)) or ""
        slope = pair.backward.documented("slope")
        scale = re.search(r"^scale: (.*)", documentation, re.MULTILINE)
        if scale:
            slope = f"{scale[1]} * ({slope})"
        cells = [
            f"[`{name}`](#preset-{name})",
            f"`{pair.forward.documented('value')}`",
            f"`{slope}`",
            _source(getattr(ks.presets, name)),
        ]
        lines += ["| " + " | ".join(cells) + " |"]
    return lines


def _written(pair: ks.Surrogate) -> str:
    scale = "" if pair.scale == 1 else f", scale={pair.scale:g}"
    return f"Surrogate({pair.forward.title!r}, {pair.backward.title!r}{scale})"


def _factor(pair: ks.Surrogate) -> str:
    return "" if pair.scale == 1 else f"{pair.scale:g} times "


def first_paragraph(thing: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _source(thing: object) -> str:
    _, found, rest = (inspect.getdoc(thing) or "").partition("Source:")
    return " ".join(rest.split()) if found else ""

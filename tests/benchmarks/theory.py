"""Predicted gradient norm and alignment beside those measured on random networks, for every published pair.

python tests/benchmarks/theory.py            writes tests/benchmarks/theory.md; a quarter of an hour
python tests/benchmarks/theory.py 20         with so many networks each

Every pair, at the weights that keep its signal (and its gradient, where both is possible), at 0.7
and at 1.5 times their variance; widths 128 and 512, depths 10, 30 and 100. The networks are plain
NumPy matrices and share no code with the prediction. All pairs go through the same matrices, as
columns, which makes it fast and their errors alike.
"""

import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_surrogate import Surrogate, presets, theory

DEPTHS, WIDTHS, DRAWS = (10, 30, 100), (128, 512), {128: 400, 512: 200}
SIDES = {"ordered": 0.7, "critical": 1.0, "chaotic": 1.5}
BATCH_NUMBERS = 5e7
OUTPUT = Path(__file__).with_suffix(".md")


def critical(pair):
    """The weights that keep the signal, and the gradient if any do both."""
    try:
        return theory.critical_weight_variance(pair)
    except ValueError:
        return theory.critical_weight_variance(Surrogate(pair.forward))


def measure(cases, width, draws, seed=0):
    """Arrays (depths, cases, draws): log10 of first over last gradient norm, and cosine with the true gradient."""
    batch = max(1, int(BATCH_NUMBERS / (max(DEPTHS) * width**2)))
    generator = np.random.default_rng(seed)
    parts = [
        networks(cases, width, min(batch, draws - done), generator)
        for done in range(0, draws, batch)
    ]
    return tuple(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))


def networks(cases, width, count, generator):
    shape = max(DEPTHS), count, width, width
    matrices = generator.standard_normal(shape, np.float32) / np.float32(np.sqrt(width))
    values = forward(cases, matrices, generator)
    slopes = [applied(cases, values, lambda pair: lambda x: pair.scale * pair.backward.slope(x))]
    slopes.append(applied(cases, values, lambda pair: pair.forward.slope))
    scales = np.sqrt(np.array([scale for _, scale in cases], np.float32))
    return tuple(
        np.array(part)
        for part in zip(
            *[back(matrices, slopes, scales, d, generator) for d in DEPTHS], strict=True
        )
    )


def forward(cases, matrices, generator):
    """Pre-activations of all layers, (depth, draws, width, cases)."""
    depth, count, width, _ = matrices.shape
    x = generator.standard_normal((count, width, 1), np.float32)
    x = np.repeat(x * np.sqrt(width) / np.linalg.norm(x, axis=1, keepdims=True), len(cases), axis=2)
    scales = np.sqrt(np.array([scale for _, scale in cases], np.float32))
    values = np.empty((depth, count, width, len(cases)), np.float32)
    for layer in range(depth):
        values[layer] = matrices[layer] @ x * scales
        x = applied(cases, values[layer], lambda pair: pair.forward.value)
    return values


def applied(cases, x, function_of):
    """Each case's function on its column; the columns of equal pairs at once."""
    result = np.empty_like(x)
    for pair in dict.fromkeys(pair for pair, _ in cases):
        columns = [index for index, (other, _) in enumerate(cases) if other == pair]
        result[..., columns] = function_of(pair)(tf.constant(x[..., columns]))
    return result


def back(matrices, slopes, scales, depth, generator):
    """log10 of first over last norm and the cosine at the first layer, both (cases, draws)."""
    _, count, width, _ = matrices.shape
    gradients = [
        generator.standard_normal((count, width, 1), np.float32) * np.ones_like(scales)
    ] * 2
    ratio = 0.0
    for layer in reversed(range(depth)):
        through = [
            gradient * slope[layer] for gradient, slope in zip(gradients, slopes, strict=True)
        ]
        norms = [np.linalg.norm(part, axis=1, keepdims=True) for part in through]
        units = [
            part / np.where(norm > 0, norm, 1) for part, norm in zip(through, norms, strict=True)
        ]
        ratio = ratio + np.log10(norms[0][:, 0]) if layer < depth - 1 else 0.0 * norms[0][:, 0]
        gradients = [np.swapaxes(matrices[layer], 1, 2) @ unit * scales for unit in units]
    alive = (norms[1] > 0)[:, 0]
    return ratio.T, np.where(alive, np.sum(units[0] * units[1], axis=1), np.nan).T


def main(draws=None):
    """Writes the table; returns the errors, (rows, 2): of the ratio over its allowance, and of the alignment over
    its."""
    pairs = {name: presets.get(name) for name in presets.names()}
    named = [
        (name, side, factor * critical(pair))
        for name, pair in pairs.items()
        for side, factor in SIDES.items()
    ]
    rows, errors, seconds = [], [], []
    for width in WIDTHS:
        ratios, cosines = measure(
            [(pairs[name], scale) for name, _, scale in named], width, draws or DRAWS[width]
        )
        for at, depth in enumerate(DEPTHS):
            for index, (name, side, scale) in enumerate(named):
                start = time.process_time()
                predicted = theory.predict(name, depth, scale, width=width)
                seconds.append(time.process_time() - start)
                cells, error = compare(ratios[at, index], cosines[at, index], predicted)
                rows.append([name, side, f"{scale:.4g}", str(width), str(depth), *cells])
                errors.append(error)
    write(rows, np.array(errors), draws, seconds[-len(named) :])
    return np.array(errors)


def compare(ratios, cosines, predicted):
    measured, expected = float(np.median(ratios)), float(np.log10(predicted.gradient_ratio))
    spread = np.std(ratios) / np.sqrt(len(ratios)) * 1.25
    error = abs(measured - expected) / max(0.2, 0.1 * abs(measured))
    cells = [f"{measured:.2f} +- {spread:.2f}", f"{expected:.2f}"]
    if predicted.alignment is None:
        return [*cells, "none", "none", "" if error <= 1 else "ratio"], (error, 0.0)
    cosine, alignment = float(np.nanmedian(cosines)), float(predicted.alignment[0])
    spread = np.nanstd(cosines) / np.sqrt(len(cosines)) * 1.25
    off = abs(cosine - alignment) / 0.05
    missed = " and ".join(
        word for word, wrong in (("ratio", error > 1), ("alignment", off > 1)) if wrong
    )
    return [*cells, f"{cosine:.2f} +- {spread:.2f}", f"{alignment:.2f}", missed], (error, off)


def write(rows, errors, draws, seconds):
    head = [
        "pair",
        "side",
        "sw2",
        "width",
        "depth",
        "log10 measured",
        "predicted",
        "cosine measured",
        "predicted",
        "misses",
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    counts = " and ".join(f"{draws or DRAWS[width]} of width {width}" for width in WIDTHS)
    summary = (
        f"Medians over {counts} (+- their standard errors). {np.sum(errors.max(axis=1) <= 1)} of "
        f"{len(rows)} rows are within the bar: "
        f"log10 of first over last gradient norm within 0.2 or 10 %, cosine with the true gradient at "
        f"the first layer within 0.05. "
        f"A prediction at depth {DEPTHS[-1]} took {1e3 * np.median(seconds):.0f} ms of CPU time in the median, "
        f"{1e3 * max(seconds):.0f} at most."
    )
    OUTPUT.write_text(
        "\n".join(
            [
                "# Predicted and measured",
                "",
                "`python tests/benchmarks/theory.py`",
                "",
                summary,
                "",
                *lines,
                "",
            ]
        )
    )
    print(summary)
    print("\n".join(line for line in lines if not line.endswith("|  |")))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

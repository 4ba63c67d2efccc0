"""How far the moving averages of batch normalisation lag behind in the short trainings of this study.

    python examples/evidence/moving_averages.py            trains what the results lack, then reports
    python examples/evidence/moving_averages.py --report   the tables, from the finished runs

With Keras's momentum of 0.99 a moving average is a mean over about the last 100 steps, so that a training
of a few hundred ends with averages that belong to earlier weights. Normalised networks of the grids,
each slope at its best rate where rates were tried, are trained again from the same starts, and their
weights are tested twice: with the moving averages, as the grids were, and with those of each 500 test
images. The three grids that have a momentum of 0.9 are trained with 0.99 here. Writes
results/moving_averages.jsonl, moving_averages.md and, slope by slope, moving_averages_slopes.md.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import report

from keras_surrogate import comparison, datasets
from keras_surrogate.comparison.statistics import interval

sys.path.append(str(Path(__file__).parents[1] / "published"))
import study

NAME = "moving_averages"
TESTED = 500
# From grid to the slopes that are trained again; an empty tuple is all of them.
GRIDS = {
    "sign": (),
    "two_bits": (),
    "dying": (),
    "vgg": ("true", "bsilu", "leaky_relu:0.3"),
    "tuned_vgg": ("true", "bsilu", "leaky_relu:0.3"),
    "sugar": ("true", "bsilu"),
    "sugar_again": ("true", "bsilu"),
}
# An effect is shown if the interval excludes 0 and the mean is at least a point, as in the grids.
RELEVANT = 0.01

Run = Mapping[str, Any]


def networks(name: str) -> dict[str, list[comparison.Case]]:
    """From network and optimizer to its slopes: normalised, unbalanced, with Keras's momentum."""
    found = collections.defaultdict(list)
    for row in report.rows_of(name):
        case = row.case
        wanted = case.backward in GRIDS[name] or not GRIDS[name]
        if not wanted or case.normalization_kind != "batch" or case.balanced:
            continue
        tuned = row.at_edge is not None
        optimizer = case.optimizer.partition(":")[0] if tuned else case.optimizer
        network = f"{case.network}, depth {case.depth}, {optimizer}"
        found[network].append(dataclasses.replace(case, normalization="batch"))
    return found


def settings(name: str) -> list[dict[str, Any]]:
    """The runs of a grid, from its own starts."""
    seeds = comparison.load_grid(report.FOLDER / f"{name}.py").seeds
    return [
        {"grid": name, "case": dataclasses.asdict(case), "seed": seed}
        for cases in networks(name).values()
        for case in cases
        for seed in seeds
    ]


@functools.lru_cache(maxsize=1)
def prepared(
    case: comparison.Case, data_dir: str | None
) -> tuple[comparison.Trainer, datasets.Dataset]:
    """Those of the last case: its starts follow each other."""
    data = datasets.load(case.data, data_dir if case.data == "cifar10" else None)
    return comparison.Trainer(case, data), data


def train(data_dir: str | None, grid: str, case: dict[str, Any], seed: int) -> dict[str, float]:
    """Train a case from one start, and test its weights with both kinds of averages."""
    trainer, data = prepared(comparison.Case(**case), data_dir)
    moving = trainer.run(seed).accuracy
    return {"moving": moving, "batch": with_batch_averages(trainer.network.model, data)}


def with_batch_averages(model: keras.Model, data: datasets.Dataset) -> float:
    """The test accuracy if each batch is normalised with its own averages."""
    hits = 0
    for start in range(0, len(data.x_test), TESTED):
        part = slice(start, start + TESTED)
        logits = model(data.x_test[part], training=True)
        hits += int(np.sum(np.argmax(logits, axis=-1) == data.y_test[part]))
    return hits / len(data.x_test)


def accuracies(runs: Sequence[Run], averages: str) -> np.ndarray:
    """In percent, in the order of the seeds."""
    return np.array([100 * one[averages] for one in sorted(runs, key=lambda one: one["seed"])])


def gain(runs: Sequence[Run], baseline: Sequence[Run], averages: str) -> tuple[float, str]:
    """The mean gain over the true slope in points, and the effect."""
    found = interval(accuracies(runs, averages) - accuracies(baseline, averages))
    shown = abs(found.mean) >= 100 * RELEVANT and not found.low <= 0 <= found.high
    return found.mean, ("helps" if found.mean > 0 else "hurts") if shown else "none"


def tables() -> tuple[str, str]:
    """Markdown of the finished runs: a line for each network, and one for each slope."""
    runs = study.read(NAME, report.RESULTS)
    lines = []
    slopes = []
    for name in GRIDS:
        for network, cases in networks(name).items():
            found = {
                case: [
                    one
                    for one in runs
                    if (one["grid"], one["case"]) == (name, dataclasses.asdict(case))
                ]
                for case in cases
            }
            lags = []
            effects = []
            baseline = next(found[case] for case in cases if case.backward == "true")
            for case, mine in found.items():
                moving = accuracies(mine, "moving").mean()
                batch = accuracies(mine, "batch").mean()
                lags.append(batch - moving)
                gains = [gain(mine, baseline, kind) for kind in ("moving", "batch")]
                shown = [""] * 2
                if mine is not baseline:
                    effects.append([effect for _, effect in gains])
                    shown = [f"{mean:+.1f}, {effect}" for mean, effect in gains]
                slope = f"{name}: {network}, {case.backward} at {case.optimizer}"
                slopes.append([slope, f"{moving:.1f}", f"{batch:.1f}", *shown])
            same = sum(one == other for one, other in effects)
            span = f"{min(lags):+.1f} to {max(lags):+.1f}"
            lines.append(
                [
                    f"{name}: {network}",
                    len(cases),
                    f"{np.mean(lags):+.1f}",
                    span,
                    f"{same} of {len(effects)}",
                ]
            )
    heading = ["grid", "slopes", "batch averages, points", "by slope", "same effect"]
    by_slope = ["slope", "moving averages, %", "batch averages, %", "gain, moving", "gain, batch"]
    return study.markdown(heading, lines), study.markdown(by_slope, slopes)


def main(data_dir: str | None = None, only_report: bool = False) -> None:
    """Train what is missing, and write the tables."""
    if not only_report:
        for name in GRIDS:
            study.run(NAME, settings(name), functools.partial(train, data_dir), report.RESULTS)
    networks_table, slopes_table = tables()
    study.write(NAME, networks_table, report.RESULTS)
    study.write(f"{NAME}_slopes", slopes_table, report.RESULTS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the files of CIFAR-10")
    parser.add_argument("--report", action="store_true", help="from the finished runs only")
    arguments = parser.parse_args()
    main(arguments.data_dir, arguments.report)

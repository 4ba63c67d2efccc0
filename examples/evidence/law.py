"""Accuracy over the direction of the gradient at the start, for all kinds of networks in one picture.

    python examples/evidence/law.py --measure [--data-dir FOLDER]       three minutes; needs the data
    python examples/evidence/law.py                                     from what was measured

For each slope with its own best learning rate: the accuracy over that of the best slope of the same
network, and the cosine of the first kernel's gradient with a reference, at the start, on 256 training
images. The reference is the true gradient where the true slope is not zero. Where it is, as for signs
and spikes, it is the gradient of the smooth network (`keras_surrogate.smooth_forward`). Writes
results/law.csv, law.md and law.png.
"""

import argparse
import collections
import csv

import numpy as np
import report
from scipy import stats

from keras_surrogate import comparison, datasets, diagnosis, plots
from keras_surrogate.plots.axes import panels

# Grids in which every slope has its own learning rate, by the kind of network.
FAMILIES = {
    "ReLU": ("tuned_he", "tuned_glorot"),
    "sigmoid": ("sigmoid",),
    "signs": ("sign",),
    "two bits": ("two_bits",),
    "spikes": ("spiking", "spiking_digits"),
}
SMOOTH = ("sign", "two_bits", "spiking", "spiking_digits")
SEEDS = range(3)
COLUMNS = ("family", "network", "slope", "cosine", "accuracy", "relative")
FILE = report.RESULTS / "law.csv"
# What a network is, besides its slope.
NETWORK = ("forward", "depth", "normalization", "initializer")
# The threshold of the picture and of the table.
THRESHOLD = 0.4


def measured_cosine(case, data):
    """The mean cosine over some starts of the first kernel's gradient with the smooth network's."""
    trainer = comparison.Trainer(case, data)
    model = trainer.network.model
    name = trainer.network.hidden[0].name
    cosines = []
    for seed in SEEDS:
        trainer.start(seed)
        found = diagnosis.alignment(
            model, data.x_train[:256], data.y_train[:256], reference="smooth"
        )
        cosines += [row.cosine for row in found.rows if row.layer == name]
    return float(np.nanmean(np.array(cosines, float)))


def lines(data_dir=None):
    """A line for each slope of each network, with the columns `COLUMNS`."""
    sets = {}
    for family, grids in FAMILIES.items():
        for grid in (name for name in grids if name in report.names()):
            rows = [row for row in report.rows_of(grid) if row.case.layer_rate == 1]
            best = collections.defaultdict(float)
            for row in rows:
                best[_network(row)] = max(best[_network(row)], row.accuracy.mean)
            for row in rows:
                case = row.case
                if grid in SMOOTH and case.backward == "true":
                    continue
                if grid in SMOOTH:
                    if case.data not in sets:
                        folder = data_dir if case.data == "mnist" else None
                        sets[case.data] = datasets.load(case.data, folder)
                    cosine = measured_cosine(case, sets[case.data])
                else:
                    known = [run.kernel_cosine for run in row.runs]
                    cosine = float(np.mean([one for one in known if one is not None]))
                accuracy = row.accuracy.mean
                slope = case.backward + (", balanced" if case.balanced else "")
                shown = [
                    f"{cosine:.3f}",
                    f"{accuracy:.4f}",
                    f"{accuracy / best[_network(row)]:.4f}",
                ]
                yield [family, _network(row), slope, *shown]


def _network(row):
    """The network of a row in words, with the optimizer's name."""
    case = row.case
    words = [f"{case.forward} {case.depth}", case.optimizer.partition(":")[0]]
    words += [case.initializer] if case.initializer != "variance:3" else []
    words += [f"{case.normalization} norm"] if case.normalization != "none" else []
    # All other networks see Fashion-MNIST.
    words += [case.data] if case.data != "fashion-mnist" else []
    return ", ".join(words)


def table(found):
    """Markdown: for each family the rank correlation, and what the threshold separates."""
    rows = []
    for family in dict.fromkeys(one["family"] for one in found):
        mine = [one for one in found if one["family"] == family]
        cosines = np.array([float(one["cosine"]) for one in mine])
        relative = np.array([float(one["relative"]) for one in mine])
        below = cosines < THRESHOLD
        rank = stats.spearmanr(cosines, relative).statistic
        rows.append(
            [
                family,
                len(mine),
                f"{rank:.2f}",
                _spread(relative[~below]),
                _spread(relative[below]),
            ]
        )
    heading = ["networks of", "slopes", "rank correlation"]
    heading += [f"accuracy / best, cosine of {THRESHOLD} and more", "below"]
    return report.markdown(heading, rows)


def _spread(relative):
    """The middle of some relative accuracies, their least, and their number."""
    if not len(relative):
        return "none"
    return f"{np.median(relative):.2f} (least {relative.min():.2f}, {len(relative)} slopes)"


def draw(found):
    """Relative accuracy over cosine, a panel for each family."""
    families = list(dict.fromkeys(one["family"] for one in found))
    axes = panels(len(families))
    for ax, family in zip(axes, families, strict=True):
        mine = [one for one in found if one["family"] == family]
        networks = list(dict.fromkeys(one["network"] for one in mine))
        for number, network in enumerate(networks):
            points = [one for one in mine if one["network"] == network]
            ax.plot(
                [float(one["cosine"]) for one in points],
                [float(one["relative"]) for one in points],
                "osD^vP"[number % 6],
                ms=5,
                color=f"C{number % 10}",
                label=network,
            )
        ax.axvline(THRESHOLD, color="0.6", lw=0.8, ls="--")
        reference = "smooth" if family in ("signs", "two bits", "spikes") else "true"
        ax.set(title=family, xlabel=f"cosine with the {reference} gradient, first kernel")
        ax.set(ylabel="accuracy / that of the best slope", xlim=(-0.25, 1.05), ylim=(0, 1.05))
        ax.grid(alpha=0.25)
        ax.legend(fontsize="xx-small", frameon=False)
    plots.save(axes, report.RESULTS / "law.png", dpi=100)


def main(measure=False, data_dir=None):
    if measure:
        measured = list(lines(data_dir))
        with FILE.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(measured)
    with FILE.open() as file:
        found = list(csv.DictReader(file))
    report.write(report.RESULTS / "law.md", table(found))
    draw(found)
    print(table(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the cosines first")
    parser.add_argument("--data-dir", help="folder with the four idx files of MNIST")
    arguments = parser.parse_args()
    main(arguments.measure, arguments.data_dir)

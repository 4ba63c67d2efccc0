"""Which reference tells the truth where the true slope is 0: smooth, noise, or finite differences?

    python examples/evidence/which_reference.py --measure     some minutes
    python examples/evidence/which_reference.py               from what was measured

For each slope of the small networks of `small.py`: the cosine of the first kernel's gradient with each
reference of `diagnosis.alignment`, at the start, on 512 training images, and the accuracy after
training with the slope's own best learning rate, over that of the best slope of the same network.
"difference" has all coordinates of larger steps: what a change of a weight really does to the loss.
"noise" exists for two values only. Writes results/which_reference.csv and which_reference.md.
"""

import argparse
import collections
import csv

import numpy as np
import report
from scipy import stats

from keras_surrogate import comparison, datasets, diagnosis
from keras_surrogate.diagnosis import references

REFERENCES = {
    "smooth": references.Smooth(),
    "noise": references.Noise(samples=256),
    "difference": references.Difference(directions=2048, step=0.3),
}
FAMILIES = {"sign": "signs", "staircase:4": "two bits", "step": "spikes"}
IMAGES = 512
SEEDS = range(1)
COLUMNS = ("family", "depth", "slope", *REFERENCES, "accuracy", "relative")
FILE = report.RESULTS / "which_reference.csv"


def cosines(case, data):
    """From reference to the mean cosine of the first kernel over some starts; None where there is none."""
    trainer = comparison.Trainer(case, data)
    name = trainer.network.hidden[0].name
    found = collections.defaultdict(list)
    for seed in SEEDS:
        trainer.start(seed)
        for title, reference in REFERENCES.items():
            try:
                result = diagnosis.alignment(
                    trainer.network.model, data.x_train[:IMAGES], data.y_train[:IMAGES], reference
                )
            except ValueError as error:
                if "'noise' does not exist" not in str(error):
                    raise
                continue
            found[title].append(result.cosines[name])
    return {title: _mean(found[title]) for title in REFERENCES}


def _mean(numbers):
    known = [number for number in numbers if number is not None]
    return float(np.mean(known)) if known else None


def lines(families=tuple(FAMILIES)):
    """A line for each slope of each network, with the columns `COLUMNS`."""
    data = datasets.load("digits")
    rows = [row for row in report.rows_of("small") if row.case.forward in families]
    best = collections.defaultdict(float)
    for row in rows:
        key = row.case.forward, row.case.depth
        best[key] = max(best[key], row.accuracy.mean)
    for row in rows:
        case = row.case
        accuracy = row.accuracy.mean
        shown = ["" if one is None else f"{one:.3f}" for one in cosines(case, data).values()]
        relative = accuracy / best[case.forward, case.depth]
        network = [FAMILIES[case.forward], case.depth, case.backward]
        yield [*network, *shown, f"{accuracy:.4f}", f"{relative:.4f}"]


def table(found):
    """Markdown: rank correlations of each reference with the accuracy, and with the differences."""
    rows = []
    for family in dict.fromkeys(one["family"] for one in found):
        for depth in dict.fromkeys(one["depth"] for one in found):
            mine = [one for one in found if (one["family"], one["depth"]) == (family, depth)]
            ranks = [_rank(mine, name, "relative") for name in REFERENCES]
            others = [_rank(mine, name, "difference") for name in ("smooth", "noise")]
            rows.append([f"{family}, depth {depth}", len(mine), *ranks, *others])
    heading = ["networks of", "slopes", *[f"accuracy with {name}" for name in REFERENCES]]
    heading += ["difference with smooth", "difference with noise"]
    return report.markdown(heading, rows)


def slopes(found):
    """Markdown: all numbers."""
    rows = [[_cell(name, one[name]) for name in COLUMNS] for one in found]
    return report.markdown([*COLUMNS[:-2], "accuracy, %", "over the best"], rows)


def _cell(name, text):
    if name == "accuracy":
        return f"{100 * float(text):.1f}"
    if name in (*REFERENCES, "relative") and text:
        return f"{float(text):.2f}"
    return text


def _rank(found, one, other):
    pairs = [(float(row[one]), float(row[other])) for row in found if row[one] and row[other]]
    return f"{stats.spearmanr(*zip(*pairs, strict=True)).statistic:.2f}" if pairs else ""


def main(measure=False):
    if measure:
        with FILE.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for line in lines():
                writer.writerow(line)
                file.flush()
    with FILE.open() as file:
        found = list(csv.DictReader(file))
    report.write(report.RESULTS / "which_reference.md", "\n".join([table(found), slopes(found)]))
    print(table(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the cosines first")
    main(parser.parse_args().measure)

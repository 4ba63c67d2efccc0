"""What all results of this folder say together: the theory's record, how fast dead units revive, and two pictures.

    python examples/evidence/report.py
    python examples/evidence/report.py --predict [--data-dir FOLDER]

Reads the results, trains nothing, and writes beside them: grids.md, summary.md, record.md,
revival.md, direction.png, revival.png. With --predict it first replaces the predicted effects in
the results by those of today's `theory.effect`, which needs the data.
"""

import argparse
import ast
import collections
import dataclasses
from pathlib import Path

import numpy as np

from keras_surrogate import comparison, datasets, files, plots
from keras_surrogate.comparison.outlook import Outlook
from keras_surrogate.comparison.statistics import interval
from keras_surrogate.plots.axes import panels

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
EFFECTS = ("helps", "none", "hurts")
UNKNOWN = "cannot tell"
# The first edition's grids, on which the theory's rule was made.
MADE_ON = (
    "annealing",
    "dead",
    "longer",
    "relu_glorot",
    "relu_he",
    "sigmoid",
    "tuned_glorot",
    "tuned_he",
    "tuned_vgg",
    "vgg",
)
# What stands in the columns of a summary, if it varies.
ACROSS = ("data", "images", "forward", "depth", "normalization", "optimizer", "epochs")
FIELDS = [field.name for field in dataclasses.fields(comparison.Case)]


def names():
    """Of all grids that have results."""
    return [name for name in grid_names() if (RESULTS / f"{name}.jsonl").exists()]


def grid_names():
    """Of all scripts in this folder that define a grid. The others are studies of their own."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _defines_grid(path))


def _defines_grid(path):
    """True if a script assigns to `grid`; it is not run."""
    assignments = (
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)
    )
    return any(ast.unparse(target) == "grid" for one in assignments for target in one.targets)


def rows_of(name):
    """The rows of a grid; where it has several learning rates and images held out, each slope with its best rate."""
    grid = comparison.load_grid(FOLDER / f"{name}.py")
    has_rates = len({case.without_rate for case in grid.cases}) < len(grid.cases)
    tune = has_rates and all(case.validation for case in grid.cases)
    return comparison.summarize(grid, comparison.read(RESULTS / f"{name}.jsonl"), tune=tune)


def every_rate(name):
    """The rows of a grid, with all its learning rates."""
    grid = comparison.load_grid(FOLDER / f"{name}.py")
    return comparison.summarize(grid, comparison.read(RESULTS / f"{name}.jsonl"))


def markdown(heading, lines):
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [heading, rule, *lines]) + "\n"


def grids(names):
    """Markdown: what each grid asks, how many trainings it has, and how long they took."""
    lines = []
    for name in names:
        question = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
        runs = comparison.read(RESULTS / f"{name}.jsonl").values()
        lines.append(
            [f"{name}.py", question, len(runs), f"{sum(run.seconds for run in runs) / 60:.0f}"]
        )
    return markdown(["grid", "", "trainings", "minutes"], lines)


def summary(found):
    """Markdown: a line for each slope, a column for each network and optimizer; in a cell accuracy and difference."""
    varied = [field for field in FIELDS if len({getattr(row.case, field) for row in found}) > 1]
    across = [field for field in varied if field in ACROSS]
    down = [field for field in varied if field not in across]
    cells = {(_named(row, down), _named(row, across)): _cell(row) for row in found}
    slopes, columns = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    lines = [[slope, *(cells.get((slope, column), "") for column in columns)] for slope in slopes]
    return markdown(["slope", *columns], lines)


def _named(row, fields):
    """These fields of a row's case in words; of an optimizer whose learning rate was chosen, only the name."""
    words = row.case.in_words(fields).removeprefix("slope ") or "plain"
    return (
        words
        if row.at_edge is None
        else words.replace(row.case.optimizer, row.setting["optimizer"])
    )


def _cell(row):
    """Accuracy, difference (in bold if it is shown) and what else the reader must know."""
    parts = [f"{100 * row.accuracy.mean:.1f}"]
    if row.difference is not None:
        difference = f"{100 * row.difference.mean:+.1f}"
        parts.append(f"({difference})" if row.effect == "none" else f"(**{difference}**)")
    if row.at_edge is not None:
        parts.append(
            f"at {row.case.optimizer.partition(':')[2]}{' or beyond' if row.at_edge else ''}"
        )
    return " ".join(parts) + (
        f", {row.diverged} of {len(row.runs)} diverged" if row.diverged else ""
    )


NETWORKS = {
    "sign": "8 layers of signs",
    "staircase:4": "8 layers, two bits",
    "step": "4 spiking layers",
}


def calibration(found):
    """Markdown: each slope as it is, calibrated, and with a learning rate for each layer, each at its best rate."""
    groups = collections.defaultdict(dict)
    for row in found:
        case = row.case
        kind = "rates" if case.layer_rate != 1 else "calibrated" if case.calibrated else "raw"
        key = case.forward, case.backward.rpartition("*")[2], case.optimizer.partition(":")[0]
        groups[key][kind] = row
    lines = []
    for (forward, slope, optimizer), rows in groups.items():
        cells = [f"{NETWORKS[forward]}, {slope}", optimizer, _at(rows["raw"])]
        for kind in ("calibrated", "rates"):
            cells += [_at(rows[kind]), _gain(rows[kind], rows["raw"])]
        lines.append(cells)
    heading = ["network and slope", "optimizer", "as it is", "calibrated", "gain"]
    return markdown([*heading, "a rate for each layer", "gain"], lines)


def _at(row):
    """The accuracy and its learning rate; a star where this is the smallest or largest tried."""
    edge = r" \*" if row.at_edge else ""
    return f"{100 * row.accuracy.mean:.1f} at {row.case.rate:g}{edge}"


def _gain(row, raw):
    """The difference of two rows in points, over the same starts, with its interval."""
    before = {run.seed: run.accuracy for run in raw.runs}
    gain = interval([100 * (run.accuracy - before[run.seed]) for run in row.runs])
    text = f"{gain.mean:+.1f}"
    is_shown = gain.low > 0 or gain.high < 0
    return f"{f'**{text}**' if is_shown else text} ({gain.low:+.1f} to {gain.high:+.1f})"


def right(counts):
    return sum(counts[effect, effect] for effect in EFFECTS)


def record(rows_by_name):
    """Markdown: how often the rule was right, by grid, and what it said against what was shown.

    From predicted numbers, where the theory applies; and from those measured at the start.
    """
    tables = []
    for number, measured in enumerate((False, True)):
        counts = {
            name: comparison.record(found, measured=measured)
            for name, found in rows_by_name.items()
        }
        counts = {name: found for name, found in counts.items() if found}
        total = sum(counts.values(), collections.Counter())
        by_grid = [_of_grid(name, found) for name, found in {**counts, "all": total}.items()]
        first = ("grid", "grid, numbers measured")[number]
        heading = [first, "slopes", "the rule says something", "and is right"]
        tables.append(markdown([*heading, "always the commonest"], by_grid))
        said = [*EFFECTS, UNKNOWN]
        crossed = [(one, *(total[one, shown] for shown in EFFECTS)) for one in said]
        tables.append(
            markdown([("it says \\ shown", "measured \\ shown")[number], *EFFECTS], crossed)
        )
    return "\n".join(tables)


def made_on():
    """Markdown: the same for the grids that the rule was made on, at every learning rate of theirs."""
    counts = sum((comparison.record(every_rate(name)) for name in MADE_ON), collections.Counter())
    heading = ["grids that the rule was made on, at one rate each", "slopes"]
    return markdown(
        [*heading, "the rule says something", "and is right", "always the commonest"],
        [_of_grid("ten grids of the first edition", counts)],
    )


def _of_grid(name, counts):
    told = sum(count for (said, _), count in counts.items() if said != UNKNOWN)
    return name, counts.total(), told, _share(right(counts), told), _commonest(counts)


def _commonest(counts):
    """How often one would be right who knew the commonest effect and said nothing else."""
    shown = collections.Counter()
    for (_, effect), count in counts.items():
        shown[effect] += count
    effect, count = shown.most_common(1)[0]
    return f'{_share(count, counts.total())} ("{effect}")'


def _share(part, whole):
    if not whole:
        return "-"
    return f"{part} of {whole}, {100 * part / whole:.0f} %"


def epochs_until(shares, bound):
    """The first epoch, from 1, after which no more than this share of the units is dead; None if there is none."""
    return next(
        (epoch for epoch, share in enumerate(shares, 1) if share is not None and share <= bound),
        None,
    )


def revival(found):
    """Markdown: dead units at the start and after some epochs, and how long it takes until half of them live."""
    last = found[0].case.epochs
    heading = ["slope", "depth", "optimizer", "dead % at the start", "after epoch 1", "5", last]
    return markdown([*heading, "half live after", "accuracy %"], [_revival(row) for row in found])


def _revival(row):
    dead = _dead(row)
    shares = [f"{100 * dead[epoch]:.0f}" for epoch in (0, 1, 5, -1)]
    half = epochs_until(dead[1:], 0.5) or "never"
    return [
        row.case.backward,
        row.case.depth,
        row.case.optimizer,
        *shares,
        half,
        f"{100 * row.accuracy.mean:.1f}",
    ]


def dying(found):
    """Markdown: dead units and accuracy at every learning rate, a table for each optimizer.

    In brackets the number of seeds that diverged. Their units count as dead.
    """
    parts = []
    for optimizer, group in _by_optimizer(found).items():
        rates = sorted({row.case.rate for row in group})
        cells = {(_network(row), row.case.rate): _dying(row) for row in group}
        lines = [
            [network, *(cells.get((network, rate), "") for rate in rates)]
            for network in dict.fromkeys(map(_network, group))
        ]
        heading = [f"dead %; accuracy % with {optimizer}", *(f"{rate:g}" for rate in rates)]
        parts.append(markdown(heading, lines))
    return "\n".join(parts)


def _by_optimizer(found):
    """Rows by the optimizer's name, without its rate."""
    groups = collections.defaultdict(list)
    for row in found:
        groups[row.case.optimizer.partition(":")[0]].append(row)
    return groups


def _network(row):
    """The forward, slope and normalisation of a row in words."""
    case = row.case
    if case.forward != "relu":
        return f"{case.forward} forward"
    words = "true slope" if case.backward == "true" else f"slope {case.backward}"
    return words if case.normalization == "none" else f"{words}, {case.normalization} norm"


def _dying(row):
    """Dead units after training, and the accuracy."""
    text = f"{100 * _dead(row)[-1]:.0f}; {100 * row.accuracy.mean:.1f}"
    return f"{text} ({row.diverged})" if row.diverged else text


def _dead(row):
    """The mean share of dead units over the epochs, from the start on; all are dead in a network that diverged."""
    shares = np.ones((len(row.runs), row.case.epochs + 1))
    for run, line in zip(row.runs, shares, strict=True):
        known = [
            share
            for share in (run.initial_dead_units, *run.history["dead_units"])
            if share is not None
        ]
        line[: len(known)] = known
    return shares.mean(axis=0)


def by(found, field):
    """Rows by the value of a field."""
    groups = collections.defaultdict(list)
    for row in found:
        groups[getattr(row.case, field)].append(row)
    return groups


def draw_revival(found, path):
    """A panel for each optimizer and depth: the share of dead units over the epochs, a line for each slope."""
    groups = [
        group for part in by(found, "optimizer").values() for group in by(part, "depth").values()
    ]
    axes = panels(len(groups))
    for ax, group in zip(axes, groups, strict=True):
        for number, row in enumerate(group):
            style = {
                "color": f"C{number}",
                "ls": "-" if number % 2 else "--",
                "label": row.case.backward,
            }
            ax.plot(100 * _dead(row), **style)
        ax.set(
            title=group[0].case.in_words(["depth", "optimizer"]),
            xlabel="epoch",
            ylabel="dead units in %",
        )
        ax.set(ylim=(-3, 103), xlim=(0, group[0].case.epochs))
        ax.grid(alpha=0.25)
    axes[-1].legend(fontsize="small", frameon=False, loc="lower right")
    plots.save(axes, path, dpi=100)


def draw_dying(found, path):
    """Dead units and accuracy over the learning rate, a column for each optimizer, a line a network."""
    groups = _by_optimizer(found)
    axes = panels(2 * len(groups))
    for column, (optimizer, group) in enumerate(groups.items()):
        for number, network in enumerate(dict.fromkeys(map(_network, found))):
            rows = sorted(
                (row for row in group if _network(row) == network), key=lambda row: row.case.rate
            )
            rates = [row.case.rate for row in rows]
            style = {"color": f"C{number}", "marker": "o", "ms": 4, "label": network}
            style["ls"] = "--" if "norm" in network else "-"
            axes[column].plot(rates, [100 * _dead(row)[-1] for row in rows], **style)
            axes[column + 2].plot(rates, [100 * row.accuracy.mean for row in rows], **style)
        axes[column].set(ylabel="dead units in %", ylim=(-3, 103))
        axes[column + 2].set(ylabel="test accuracy in %")
        for ax in axes[column::2]:
            ax.set(xscale="log", xlabel=f"learning rate of {optimizer}")
            ax.grid(alpha=0.25)
    axes[0].legend(fontsize="small", frameon=False)
    plots.save(axes, path, dpi=100)


def draw_direction(found, path):
    """Difference in accuracy over the predicted cosine, a panel for each optimizer."""
    shown = [
        row for row in found if row.difference is not None and row.predicted_cosine is not None
    ]
    groups = by(shown, "optimizer")
    axes = panels(len(groups))
    for ax, (optimizer, group) in zip(axes, groups.items(), strict=True):
        for balanced, part in by(group, "balanced").items():
            _draw_differences(ax, part, "os"[balanced], "balanced" if balanced else "as it is")
        ax.axhline(0, color="0.5", lw=0.8)
        ax.set(title=optimizer, xlabel="predicted cosine with the true gradient, first layer")
        ax.set_ylabel("accuracy less that of the true slope, points")
        ax.grid(alpha=0.25)
    axes[0].legend(fontsize="small", frameon=False)
    plots.save(axes, path, dpi=100)


def _draw_differences(ax, rows, marker, label):
    middle, low = (
        np.array([getattr(row.difference, end) for row in rows]) for end in ("mean", "low")
    )
    cosines = [row.predicted_cosine for row in rows]
    ax.errorbar(cosines, 100 * middle, 100 * (middle - low), fmt=marker, ms=4, lw=0.8, label=label)


def write(path, text):
    with files.replacing_file(path) as unfinished:
        unfinished.write_text(text)


def predict_again(data_dir):
    """Replace the predicted effects in all results by those of today's rule."""
    data = {}
    effects = {}
    for name in names():
        runs = comparison.read(RESULTS / f"{name}.jsonl")
        for case, _ in runs:
            if case.data not in data:
                data[case.data] = datasets.load(case.data, data_dir)
            if case not in effects:
                effects[case] = Outlook.of(case, data[case.data]).effect
        lines = [
            dataclasses.replace(run, predicted_effect=effects[case]).to_line()
            for (case, _), run in runs.items()
        ]
        write(RESULTS / f"{name}.jsonl", "".join(lines))
        write(RESULTS / f"{name}.md", comparison.markdown(rows_of(name)))


def main():
    found = {name: rows_of(name) for name in names()}
    write(
        RESULTS / "summary.md",
        "\n".join(f"## {name}\n\n{summary(rows)}" for name, rows in found.items()),
    )
    write(RESULTS / "grids.md", grids(found))
    write(RESULTS / "record.md", f"{record(found)}\n{made_on()}")
    write(RESULTS / "revival.md", revival(found["dead"]))
    write(RESULTS / "calibration.md", calibration(found["calibrated"]))
    draw_revival(found["dead"], RESULTS / "revival.png")
    every = every_rate("dying")
    write(RESULTS / "dying_rates.md", dying(every))
    draw_dying(every, RESULTS / "dying.png")
    draw_direction(found["relu_he"], RESULTS / "direction.png")
    for name in ("summary.md", "record.md", "revival.md"):
        print((RESULTS / name).read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predict", action="store_true", help="apply today's rule to the results")
    parser.add_argument("--data-dir", help="a folder with the data of the grids")
    arguments = parser.parse_args()
    if arguments.predict:
        predict_again(arguments.data_dir)
    main()

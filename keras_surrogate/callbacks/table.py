"""The gradient norms as a table in the terminal, while training runs."""

import itertools
import math

import numpy as np
from rich.console import Console, Group
from rich.control import Control
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from keras_surrogate.callbacks.listening import Listener
from keras_surrogate.checks import integer
from keras_surrogate.records import Record, Series, shortened

_BAR = 20


class GradientTable(Listener):
    """Prints a table of the layers' gradient norms after each epoch.

        logger = GradientNormLogger()
        model.fit(..., callbacks=[logger, GradientTable(logger)])

    A norm is the mean over the epoch's recorded steps in which it is finite, as in Keras's `logs`;
    the change is its quotient by the last epoch's; the bars are on a log scale, between the powers
    of ten that the column's head names.

    With Keras's progress bar the tables stand between the epochs. With `verbose=0`, in a terminal,
    each one takes the place of the last; where the output is no terminal, each is printed below the
    last, without control codes.

    Args:
        logger: the `GradientNormLogger`, which is in the callbacks of the same `fit`.
        rows: of more layers than this the table has the first, the last, and those with the largest
            and the smallest norms; an integer of at least 4, default 16.
        live: whether a table may take the place of the last one. Default True; with False what
            other callbacks print between two tables is never overwritten.
        console: a `rich.console.Console` to print to; default None, standard output.

    Raises:
        TypeError: `logger` is no `GradientNormLogger`.
        ValueError: `rows` out of its range; the logger is not in the callbacks of the same `fit`.
    """

    def __init__(self, logger, rows=16, live=True, console=None):
        super().__init__(logger)
        self._rows = integer(rows, "GradientTable: rows", least=4)
        self._live = live
        self._console = console
        self._reset()

    def _reset(self):
        self._series = Series(keep=1)
        self._columns = None
        self._heard = False
        self._before = None
        self._height = 0
        self._waiting = None

    def on_epoch_begin(self, epoch, logs=None):
        self._print_waiting()
        self._logger.read()
        self._series.begin_epoch()
        self._heard = False

    def write(self, columns, steps, epochs, rows):
        """Takes what the logger has read."""
        self._columns, self._heard = tuple(columns), True
        self._series.append(steps, epochs, rows)

    def on_epoch_end(self, epoch, logs=None):
        self._logger.read()
        if self._heard:
            self._wait_with(
                epoch, Record(self._columns, [0], [epoch], self._series.means()[np.newaxis])
            )
        if not self.params.get("verbose"):
            self._print_waiting()

    def _wait_with(self, epoch, means):
        """The table is printed only when Keras's line of the epoch is complete."""
        norms = np.append(means.norms[0], means.global_norms)
        before = np.full(len(norms), np.nan) if self._before is None else self._before
        self._waiting = (self._title(epoch), [*means.layer_names, "all layers"], norms, before)
        self._before = norms

    def _title(self, epoch):
        skipped = (
            f", not finite in {self._series.nonfinite} steps" if self._series.nonfinite else ""
        )
        return f"{self._logger.kind} gradient norms, epoch {epoch + 1}/{self.params.get('epochs', '?')}{skipped}"

    def on_train_end(self, logs=None):
        self._print_waiting()

    def _print_waiting(self):
        if self._waiting is None:
            return
        console = self._console or Console()
        in_place = self._live and console.is_terminal and not self.params.get("verbose")
        rows = min(self._rows, max(4, console.height - 4)) if in_place else self._rows
        table = norm_table(*self._waiting, rows, console.options.ascii_only)
        if in_place and self._height:
            console.control(_back_over(self._height))
        console.print(table)
        self._waiting, self._height = None, len(console.render_lines(table))


def norm_table(title, names, norms, before, rows=16, ascii_only=False):
    """To print: a table of norms, of which the last stands for all layers, with their change since `before`."""
    layers = len(norms) - 1
    low, high = decades(norms[:layers])
    table = Table(box=None, pad_edge=False)
    for heading in ("", "layer", "norm", "change"):
        table.add_column(heading, justify="left" if heading == "layer" else "right", no_wrap=True)
    table.add_column(f"1e{low} to 1e{high}", no_wrap=True, min_width=_BAR)
    block, lengths = "#" if ascii_only else "\u2588", bar_lengths(norms[:layers], low, high)
    for place in chosen(norms[:layers], rows):
        row = (
            str(place + 1),
            _name(names[place], ascii_only),
            *_numbers(norms[place], before[place]),
        )
        table.add_row(*map(Text, row), block * lengths[place])
    shown = f"{rows} of {layers} layers" if layers > rows else ""
    table.add_row("", names[layers], *_numbers(norms[layers], before[layers]), shown)
    return Group(Text(title), table)


def _name(name, ascii_only):
    name = shortened(name)
    return name.replace("\u2026", "~").encode("ascii", "replace").decode() if ascii_only else name


def _numbers(norm, before):
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.divide(norm, before)
    return f"{norm:.2e}", f"x {change:.3g}" if np.isfinite(change) else ""


def decades(norms):
    """The exponents of the powers of ten between which all positive finite norms lie; -1 and 0 where there are none."""
    exponents = np.log10(norms[np.isfinite(norms) & (norms > 0)])
    low = math.floor(min(exponents, default=-1))
    return low, max(low + 1, math.ceil(max(exponents, default=0)))


def bar_lengths(norms, low, high, longest=_BAR):
    """The lengths of bars on a log scale: 1 for 10**low, `longest` for 10**high; 0 for 0 and for what is not finite."""
    drawn = np.isfinite(norms) & (norms > 0)
    shares = (np.log10(norms, where=drawn, out=np.zeros(len(norms))) - low) / (high - low)
    return np.where(drawn, 1 + np.rint(shares * (longest - 1)), 0).astype(int)


def chosen(norms, rows):
    """The places of at most so many norms: a quarter first ones, a quarter last ones, and the largest and smallest.

    What is not finite counts as largest.
    """
    quarter, count = rows // 4, len(norms)
    if count <= rows:
        return list(range(count))
    order = np.argsort(np.where(np.isfinite(norms), norms, np.inf), kind="stable").tolist()
    extremes = itertools.chain.from_iterable(zip(reversed(order), order, strict=True))
    places = dict.fromkeys([*range(quarter), *range(count - quarter, count), *extremes])
    return sorted(itertools.islice(places, rows))


def _back_over(height):
    """The control codes that erase the lines above the cursor and leave it on the first of them."""
    return Control(*[(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * height)

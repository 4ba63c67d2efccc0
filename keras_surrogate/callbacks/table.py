"""The gradient norms as a table in the terminal during training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.control import Control
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from keras_surrogate.callbacks.listening import Listener
from keras_surrogate.callbacks.logger import GradientNormLogger
from keras_surrogate.checks import integer
from keras_surrogate.records import Record, Series, shortened

_BAR = 20


class GradientTable(Listener):
    """Prints a table of the layers' gradient norms after each epoch.

        logger = GradientNormLogger()
        model.fit(..., callbacks=[logger, GradientTable(logger)])

    A norm is the mean over the epoch's recorded steps in which it is finite, as in Keras's `logs`.
    The change is the norm divided by that of the previous epoch. The bars have a log scale between
    the powers of ten in the column's head.

    With Keras's progress bar the tables are printed between the epochs. With `verbose=0` in a
    terminal each table replaces the previous one. Where the output is not a terminal, each table
    is printed below the previous one, without control codes.

    Args:
        logger: the `GradientNormLogger`, which is in the callbacks of the same `fit`.
        rows: the largest number of layers in the table, an integer of at least 4, default 16. Of
            more layers the table shows the first, the last, and those with the largest and the
            smallest norms.
        live: whether a table may replace the previous one, default True. With False, output of
            other callbacks between two tables is never overwritten.
        console: a `rich.console.Console` to print to; default None, standard output.

    Raises:
        TypeError: `logger` is not a `GradientNormLogger`.
        ValueError: `rows` is out of its range; the logger is not in the callbacks of the same
            `fit`.
    """

    def __init__(
        self,
        logger: GradientNormLogger,
        rows: int | np.integer = 16,
        live: bool = True,
        console: Console | None = None,
    ) -> None:
        super().__init__(logger)
        self._rows = integer(rows, "GradientTable: rows", least=4)
        self._live = live
        self._console = console
        self._reset()

    def _reset(self) -> None:
        self._series = Series(keep=1)
        self._columns: tuple[str, ...] = ()
        self._received = False
        self._before: np.ndarray | None = None
        self._height = 0
        # The arguments of `norm_table` for a table that is not printed yet.
        self._waiting: tuple[str, list[str], np.ndarray, np.ndarray] | None = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._print_waiting()
        self._logger.read()
        self._series = Series(keep=1, kind=self._logger.kind or "raw")
        self._received = False

    def write(
        self, columns: Sequence[str], steps: np.ndarray, epochs: np.ndarray, rows: np.ndarray
    ) -> None:
        """Add rows that the logger has read to the means of the epoch."""
        self._columns = tuple(columns)
        self._received = True
        self._series.append(steps, epochs, rows)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._logger.read()
        if self._received:
            means = self._series.means()[np.newaxis]
            self._prepare(epoch, Record(self._columns, np.zeros(1, int), np.array([epoch]), means))
        # With a progress bar the table waits until Keras's line of the epoch is complete.
        if not self.params.get("verbose"):
            self._print_waiting()

    def _prepare(self, epoch: int, means: Record) -> None:
        norms = np.append(means.norms[0], means.global_norms)
        before = np.full(len(norms), np.nan) if self._before is None else self._before
        self._waiting = (self._title(epoch), [*means.layer_names, "all layers"], norms, before)
        self._before = norms

    def _title(self, epoch: int) -> str:
        epochs = self.params.get("epochs", "?")
        title = f"{self._logger.kind} gradient norms, epoch {epoch + 1}/{epochs}"
        if self._series.nonfinite:
            title += f", not finite in {self._series.nonfinite} steps"
        return title

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._print_waiting()

    def _print_waiting(self) -> None:
        if self._waiting is None:
            return
        console = self._console or Console()
        in_place = self._live and console.is_terminal and not self.params.get("verbose")
        rows = self._rows
        if in_place:
            # Lines that have left the screen cannot be erased. Four lines are not rows of layers.
            rows = min(rows, max(4, console.height - 4))
        table = norm_table(*self._waiting, rows, console.options.ascii_only)
        if in_place and self._height:
            console.control(_back_over(self._height))
        console.print(table)
        self._waiting = None
        self._height = len(console.render_lines(table))


def norm_table(
    title: str,
    names: Sequence[str],
    norms: np.ndarray,
    before: np.ndarray,
    rows: int = 16,
    ascii_only: bool = False,
) -> Group:
    """A printable table of norms and of their change.

    Args:
        title: the line above the table.
        names: names of the layers, and one for all layers together at the end.
        norms: their norms, shape (names,).
        before: their norms in the previous epoch; NaN where unknown.
        rows: the largest number of layers in the table, default 16.
        ascii_only: whether only ASCII characters may be used, default False.
    """
    layers = len(norms) - 1
    low, high = decades(norms[:layers])
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    table.add_column("norm", justify="right", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column(f"1e{low} to 1e{high}", no_wrap=True, min_width=_BAR)
    block = "#" if ascii_only else "\u2588"
    lengths = bar_lengths(norms[:layers], low, high)
    for place in chosen(norms[:layers], rows):
        number = str(place + 1)
        name = _name(names[place], ascii_only)
        cells = [number, name, *_numbers(norms[place], before[place])]
        # As Text, because rich would interpret brackets in a string as markup.
        table.add_row(*map(Text, cells), block * lengths[place])
    shown = ""
    if layers > rows:
        shown = f"{rows} of {layers} layers"
    table.add_row("", names[layers], *_numbers(norms[layers], before[layers]), shown)
    return Group(Text(title), table)


def _name(name: str, ascii_only: bool) -> str:
    name = shortened(name)
    if not ascii_only:
        return name
    return name.replace("\u2026", "~").encode("ascii", "replace").decode()


def _numbers(norm: float, before: float) -> tuple[str, str]:
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.divide(norm, before)
    return f"{norm:.2e}", f"x {change:.3g}" if np.isfinite(change) else ""


def decades(norms: np.ndarray) -> tuple[int, int]:
    """The exponents of the powers of ten that enclose all positive finite norms.

    They are -1 and 0 if there are none.
    """
    exponents = np.log10(norms[np.isfinite(norms) & (norms > 0)])
    low = math.floor(min(exponents, default=-1))
    high = math.ceil(max(exponents, default=0))
    return low, max(low + 1, high)


def bar_lengths(norms: np.ndarray, low: int, high: int, longest: int = _BAR) -> np.ndarray:
    """The lengths of bars on a log scale: 1 for 10**low, `longest` for 10**high.

    The length is 0 for norms that are 0 or not finite.
    """
    drawn = np.isfinite(norms) & (norms > 0)
    logarithms = np.log10(norms, where=drawn, out=np.zeros(len(norms)))
    shares = (logarithms - low) / (high - low)
    return np.where(drawn, 1 + np.rint(shares * (longest - 1)), 0).astype(int)


def chosen(norms: np.ndarray, rows: int) -> list[int]:
    """The places of at most `rows` norms.

    A quarter of them are the first norms, a quarter the last norms, and the others the largest and
    the smallest. Norms that are not finite count as the largest.
    """
    count = len(norms)
    if count <= rows:
        return list(range(count))
    quarter = rows // 4
    order = np.argsort(np.where(np.isfinite(norms), norms, np.inf), kind="stable").tolist()
    # The largest, the smallest, the second largest, and so on.
    extremes = itertools.chain.from_iterable(zip(reversed(order), order, strict=True))
    places = dict.fromkeys([*range(quarter), *range(count - quarter, count), *extremes])
    return sorted(itertools.islice(places, rows))


def _back_over(height: int) -> Control:
    """The control codes that erase `height` lines above the cursor, and move it to the first."""
    return Control(*[(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * height)

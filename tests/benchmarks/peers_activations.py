"""Time and memory of this package's activations against native ones, the stop-gradient trick, and spiking libraries.

Like is compared with like: `tf.function` with eager PyTorch, "operation by operation"; and XLA with
`torch.compile`, "compiled". All contenders of a row take turns in random order, and their ratios
are medians over the rounds.
"""

import contextlib
import dataclasses
import pathlib
import random
import statistics
import time

import numpy as np
from peers_report import table
from peers_worker import RefusedError, Worker

CONTENDERS = {
    "ours": ("tensorflow", "ours"),
    "native TF": ("tensorflow", "native"),
    "native torch": ("torch", "native"),
    "trick TF": ("tensorflow", "direct"),
    "trick torch": ("torch", "direct"),
    "indirect TF": ("tensorflow", "indirect"),
    "indirect torch": ("torch", "indirect"),
    "snntorch": ("torch", "snntorch"),
    "spikingjelly": ("torch", "spikingjelly"),
}
EVERY = [title for title in CONTENDERS if "indirect" not in title]
BY_SIZE = {
    "ReLU, B-SiLU": [title for title in CONTENDERS if title not in ("snntorch", "spikingjelly")],
    "step, arc tangent": ["ours", "trick TF", "trick torch", "snntorch", "spikingjelly"],
}
MODES = {False: "operation by operation", True: "compiled"}
# One timing takes at least so long; what a machine of that memory has left must hold so many
# tensors for a step.
LEAST_SECONDS, TENSORS = 0.01, 16
EXPLANATION = """\
Each time is the contender's over ours, so above 1 is slower than ours. Memory is what a step holds at most beyond its
two arguments, in tensors of their size; value and gradient are two of these. "trick" is SUGAR's stop-gradient
trick, `m = x * stop_gradient(slope(x)); y = m - stop_gradient(m) + stop_gradient(value(x))`, "indirect" the same with
`m = primitive(x)` (arXiv:2505.22074, arXiv:2406.00177); straight-through has only the latter. "native" is the same
value with its own derivative, which a step has not. Operation by operation is `tf.function` and eager PyTorch, compiled
is XLA, which makes one kernel of value and gradient, and `torch.compile`, which makes two as in a model. Inputs are
normal with deviation 2, float32. A number with * belongs to another formula, one with a factor to a multiple of our
slope; the others have our values and, but for the native ones, our gradients to 4 digits: the first thousand are
compared at every size. TensorFlow keeps the memory that it frees, PyTorch gives much of it back, which takes its time
with large tensors.
"""


@dataclasses.dataclass
class Cell:
    """What is known of a contender: a number, or a word why there is none; and how its slope relates to ours."""

    number: float | None = None
    word: str = ""
    factor: float | None = 1.0

    def __str__(self):
        if self.number is None:
            return self.word or "-"
        mark = "*" if self.factor is None else "" if self.factor == 1 else f" ({self.factor:.3g} x)"
        return f"{self.number:.2f}{mark}"


def tables(effort):
    """All tables of this part as Markdown, notes last."""
    notes = {}
    with _workers() as workers:
        timed = [_time_by_pair(workers, effort, compiled, notes) for compiled in MODES]
        timed += _time_by_size(workers, effort, notes)
    with _workers(
        MALLOC_MMAP_THRESHOLD_="65536"
    ) as workers:  # what is freed goes back to the system at once
        held = [_memory(workers, effort, compiled, notes) for compiled in MODES]
    remarks = [
        f"* {': '.join([remark, '; '.join(pairs)] if pairs else [remark])}."
        for remark, pairs in notes.items()
    ]
    return "\n".join([EXPLANATION, *timed, *held, *remarks, ""])


@contextlib.contextmanager
def _workers(**environment):
    with Worker("tensorflow", **environment) as tensorflow, Worker("torch", **environment) as torch:
        yield {"tensorflow": tensorflow, "torch": torch}


def _time_by_pair(workers, effort, compiled, notes):
    rows = [
        _row(pair, EVERY, _times(workers, pair, effort.size, compiled, EVERY, effort, notes))
        for pair in effort.pairs
    ]
    title = f"Time of value and gradient, {_short(effort.size)} elements, {MODES[compiled]}"
    return table(title, ["value, slope", "ours, us", *EVERY[1:]], rows)


def _time_by_size(workers, effort, notes):
    """One table for each pair and mode. Sizes come first, so that tensors are drawn once a size."""
    cases = [(pair, compiled) for pair in effort.size_pairs for compiled in MODES]
    rows = {case: [] for case in cases}
    for size in effort.sizes:
        for pair, compiled in cases:
            times = _times(workers, pair, size, compiled, BY_SIZE[pair], effort, notes)
            rows[pair, compiled].append(_row(_short(size), BY_SIZE[pair], times))
    for pair, compiled in cases:
        title = f"{pair}: time by number of elements, {MODES[compiled]}"
        yield table(title, ["elements", "ours, us", *BY_SIZE[pair][1:]], rows[pair, compiled])


def _short(number):
    return f"{number:.0e}".replace("e+0", "e")


def _row(name, titles, cells):
    ours = cells["ours"]
    first = str(ours) if ours.number is None else f"{1e6 * ours.number:.4g}"
    return [name, first, *(str(cells[title]) for title in titles[1:])]


def _times(workers, pair, size, compiled, titles, effort, notes):
    """A `Cell` for each title: ours with seconds, the others with the ratio to ours."""
    cells = _prepared(workers, pair, size, compiled, titles, notes)
    rounds = _rounds(workers, cells, effort)
    for title, cell in cells.items():
        if not cell.word and rounds:
            cell.number = statistics.median(
                seconds[title] / (title == "ours" or seconds["ours"]) for seconds in rounds
            )
    for worker in workers.values():
        worker("forget")
    return cells


def _rounds(workers, cells, effort):
    """Seconds by title, for each round. There are rounds until the time is spent, but at least three."""
    once = _round(workers, cells, dict.fromkeys(cells, 1))
    calls = {title: max(1, round(LEAST_SECONDS / seconds)) for title, seconds in once.items()}
    rounds, end = [], time.perf_counter() + effort.seconds
    while "ours" in calls and (
        len(rounds) < 3 or (len(rounds) < effort.rounds and time.perf_counter() < end)
    ):
        rounds.append(_round(workers, cells, calls))
    return [] if cells["ours"].word else rounds


def _round(workers, cells, calls):
    """Seconds of one call by title, in random order. Who fails gets a word and drops out."""
    ready = [title for title, cell in cells.items() if not cell.word]
    seconds = {}
    for title in random.sample(ready, len(ready)):
        framework, kind = CONTENDERS[title]
        try:
            seconds[title] = workers[framework]("seconds", kind, calls[title])
        except RefusedError as refused:
            cells[title].word = refused.word
    return seconds


def _prepared(workers, pair, size, compiled, titles, notes):
    """A `Cell` for each title, with a word in it where there is nothing to measure."""
    if 4 * TENSORS * size > _available_bytes():
        return {title: Cell(word="no room") for title in titles}
    cells, results = {}, {}
    for title in titles:
        framework, kind = CONTENDERS[title]
        try:
            results[title] = np.array(workers[framework]("prepare", pair, kind, compiled, size))
            cells[title] = Cell(factor=_factor(title, results[title], results.get("ours")))
            _note_difference(notes, title, pair, cells[title].factor)
        except RefusedError as refused:
            cells[title] = _refused(refused, f"{title}, {MODES[compiled]}", pair, notes)
    return cells


def _refused(refused, where, pair, notes):
    if refused.word == "not installed":
        notes.setdefault(str(refused), [])
    elif refused.word:
        _note(notes, f"{where}: {refused}", pair)
    return Cell(word=refused.word or "-")


def _available_bytes():
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _factor(title, results, ours):
    """How many times our slope a contender's is; None where value or slope is another. A native slope is its own."""
    if ours is None:
        return 1.0  # there will be no ratio to it
    (value, slope), (our_value, our_slope) = results, ours
    factor = 1.0 if "native" in title else np.vdot(our_slope, slope) / np.vdot(our_slope, our_slope)
    factor = 1.0 if abs(factor - 1) < 1e-3 else factor
    expected = slope if "native" in title else factor * our_slope
    near = np.allclose(slope, expected, rtol=1e-4, atol=1e-5 * np.max(np.abs(expected)))
    return factor if near and np.allclose(value, our_value, rtol=1e-4, atol=1e-5) else None


def _note_difference(notes, title, pair, factor):
    if factor is None:
        _note(notes, f"{title}* has another formula", pair)
    elif factor != 1:
        _note(notes, f"{title} has {factor:.4g} times our slope", pair)


def _note(notes, remark, pair):
    pairs = notes.setdefault(remark, [])
    if pair not in pairs:
        pairs.append(pair)


def _memory(workers, effort, compiled, notes):
    rows = [
        [pair, *(str(_peak(workers, effort, pair, title, compiled, notes)) for title in EVERY)]
        for pair in effort.memory_pairs
    ]
    title = f"Peak memory of value and gradient, {_short(effort.memory_size)} elements, {MODES[compiled]}, in tensors"
    return table(title, ["value, slope", *EVERY], rows)


def _peak(workers, effort, pair, title, compiled, notes):
    """A `Cell` with a number of tensors, from a new process in the case of TensorFlow, which keeps what it freed."""
    framework, kind = CONTENDERS[title]
    if framework == "tensorflow":
        workers[framework].stop()
    try:
        return Cell(workers[framework]("peak", pair, kind, compiled, effort.memory_size))
    except RefusedError as refused:
        return _refused(refused, f"{title}, {MODES[compiled]}", pair, notes)
    finally:
        workers["torch"]("forget")

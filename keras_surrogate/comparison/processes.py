"""Worker processes: those that a grid starts for itself, and those of the user's executor."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any, Protocol

from keras_surrogate.comparison import worker

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

_HOW_TO_START = (
    'A script must call it below if __name__ == "__main__":, because each process imports the '
    "script."
)
# TensorFlow never frees graphs with a custom gradient, 10 to 30 MB a case, so that a process is
# renewed after some tasks, one training each. The start takes as long as a few trainings.
_MOST_TASKS = 500
_HOW_TO_INSTALL = "They need this version of keras_surrogate, and of all that it imports."


class Slot(Protocol):
    """A place that takes one task at a time."""

    def submit(self, function: Callable[..., Any], *arguments: object) -> futures.Future:
        """Hand in a task."""
        ...

    def reason(self, error: BaseException) -> str:
        """The error of a task in words; the slot takes tasks again if it can."""
        ...


class OwnProcess:
    """A `Slot` with a process of its own, started again when it has died and after many tasks.

    It is a pool of one process, because a death breaks the whole pool. So it costs one training,
    that of the dead process, and the trainings of other processes go on.

    Args:
        share: the processor cores of the process; empty for all.
    """

    def __init__(self, share: set[int]) -> None:
        self._share = share
        self._start()

    def _start(self) -> None:
        # A fork of a process that has imported TensorFlow hangs.
        context = multiprocessing.get_context("spawn")
        self._pool = futures.ProcessPoolExecutor(
            1, mp_context=context, initializer=worker.start, initargs=(self._share,)
        )
        self._process: BaseProcess | None = None
        self._tasks = 0

    def submit(self, function: Callable[..., Any], *arguments: object) -> futures.Future:
        if self._tasks == _MOST_TASKS:
            self.stop()
            self._start()
        self._tasks += 1
        if self._process is not None:
            return self._pool.submit(function, *arguments)
        # The first task starts the process.
        before = set(multiprocessing.active_children())
        with _ctrl_c_ignored():
            future = self._pool.submit(function, *arguments)
        (self._process,) = set(multiprocessing.active_children()) - before
        return future

    def reason(self, error: BaseException) -> str:
        if not isinstance(error, futures.BrokenExecutor):
            return worker.in_words(error)
        self._pool.shutdown()
        status = None if self._process is None else self._process.exitcode
        self._start()
        if status is not None and status < 0:
            return f"its process was killed by signal {-status}"
        return f"its process ended with status {status}"

    def stop(self) -> None:
        """End the process, and the training in it."""
        if self._process is not None:
            self._process.terminate()
        self._pool.shutdown()


class Borrowed:
    """A `Slot` of the user's executor, which stays as it is."""

    def __init__(self, executor: futures.Executor) -> None:
        self._executor = executor

    def submit(self, function: Callable[..., Any], *arguments: object) -> futures.Future:
        return self._executor.submit(function, *arguments)

    def reason(self, error: BaseException) -> str:
        return worker.in_words(error)


@contextlib.contextmanager
def own(number: int) -> Iterator[list[OwnProcess]]:
    """A context with that many processes, which end with it.

    Raises:
        ValueError: they do not start.
    """
    slots = [OwnProcess(share) for share in shares(number)]
    try:
        _check(slots, "The worker processes do not start", _HOW_TO_START)
        yield slots
    finally:
        for slot in slots:
            slot.stop()


def borrowed(executor: futures.Executor, number: int) -> list[Borrowed]:
    """That many slots of an executor.

    Raises:
        ValueError: its workers cannot train.
    """
    slot = Borrowed(executor)
    _check([slot], "The executor's workers cannot train", _HOW_TO_INSTALL)
    return [slot] * number


def _check(slots: Sequence[Slot], complaint: str, remedy: str) -> None:
    """Compare the versions in the workers with those of this process."""
    try:
        tasks = [slot.submit(worker.versions) for slot in slots]
        found = [task.result() for task in tasks]
    except Exception as error:
        raise ValueError(f"{complaint}: {worker.in_words(error)}. {remedy}") from error
    here = worker.versions()
    for theirs in found:
        others = [f"{name} {theirs[name]}" for name in here if theirs[name] != here[name]]
        if others:
            raise ValueError(f"{complaint} as this process does: they have {', '.join(others)}.")


def shares(number: int) -> list[set[int]]:
    """The processor cores of each of so many processes; empty sets where there are too few."""
    known = sorted(worker.cores())
    if number > len(known):
        return [set()] * number
    return [
        set(known[place * len(known) // number : (place + 1) * len(known) // number])
        for place in range(number)
    ]


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """A context in which new processes inherit that they ignore Ctrl-C.

    `worker.start` would be too late: it runs when TensorFlow has been imported.
    """
    is_main = threading.current_thread() is threading.main_thread()
    # Only the main thread may set a handler. None is one that Python did not set.
    if not is_main or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)

"""The order in which the trainings of a grid go to worker processes, and their results."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from typing import TYPE_CHECKING

from keras_surrogate.comparison import worker

if TYPE_CHECKING:
    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.comparison.processes import Slot
    from keras_surrogate.comparison.results import Run
    from keras_surrogate.comparison.worker import Settings


@dataclasses.dataclass
class Job:
    """A case, and the seeds that no task has yet."""

    case: Case
    seeds: list[int]


@dataclasses.dataclass
class Task:
    """Seeds of a job that a slot trains."""

    job: Job
    seeds: list[int]
    slot: Slot


def jobs(missing: Iterable[tuple[Case, int]], seeds_at_most: int | None = None) -> list[Job]:
    """The jobs of a grid, one for each case, or more if a job may have that many seeds only."""
    found = []
    for case, keys in itertools.groupby(missing, key=lambda key: key[0]):
        seeds = [seed for _, seed in keys]
        size = seeds_at_most or len(seeds)
        starts = range(0, len(seeds), size)
        found.extend(Job(case, seeds[start : start + size]) for start in starts)
    return found


class Schedule:
    """Jobs that go to slots.

    A job stays with its slot, so that its case is compiled once. A slot without work takes half of
    the seeds that another job has left: one compilation more, but no idle processor at the end.

    Args:
        jobs: those of a grid.
        slots: at least one.
        settings: those of all tasks.
        seeds_per_task: 1 gives a result to the caller after each training; None makes one task of
            a job.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        slots: Sequence[Slot],
        settings: Settings,
        seeds_per_task: int | None,
    ) -> None:
        self._waiting = collections.deque(jobs)
        self._slots = slots
        self._settings = settings
        self._seeds_per_task = seeds_per_task
        self._running: dict[futures.Future, Task] = {}

    def results(self) -> Iterator[tuple[Case, int, Run | str]]:
        """Case, seed and `Run`, or in words why there is none, of each training when it ends.

        Closing the iterator cancels the tasks that have not begun.
        """
        try:
            for slot in self._slots:
                self._feed(slot, self._next_job())
            while self._running:
                done, _ = futures.wait(self._running, return_when=futures.FIRST_COMPLETED)
                for future in done:
                    yield from self._collect(future)
        finally:
            for future in self._running:
                future.cancel()

    def _collect(self, future: futures.Future) -> Iterator[tuple[Case, int, Run | str]]:
        task = self._running.pop(future)
        job = task.job
        outcomes = _outcomes(future, task)
        # Before the caller writes the results, so that the process does not wait for it.
        self._feed(task.slot, job if job.seeds else self._next_job())
        for seed, outcome in zip(task.seeds, outcomes, strict=True):
            yield job.case, seed, outcome

    def _feed(self, slot: Slot, job: Job | None) -> None:
        """Hand a job's next seeds to a slot."""
        if job is None:
            return
        seeds = job.seeds[: self._seeds_per_task]
        del job.seeds[: self._seeds_per_task]
        try:
            future = slot.submit(worker.train, job.case, seeds, self._settings)
        except Exception as error:
            # A broken executor. The error is named with the trainings, as if they had begun.
            future = futures.Future()
            future.set_exception(error)
        self._running[future] = Task(job, seeds, slot)

    def _next_job(self) -> Job | None:
        """A job that nobody has, or half of one."""
        if self._waiting:
            return self._waiting.popleft()
        others = [task.job for task in self._running.values()]
        longest = max(others, key=lambda job: len(job.seeds), default=None)
        if longest is None or not longest.seeds:
            return None
        kept = len(longest.seeds) // 2
        taken = longest.seeds[kept:]
        del longest.seeds[kept:]
        return Job(longest.case, taken)


def _outcomes(future: futures.Future, task: Task) -> Sequence[Run | str]:
    try:
        return future.result()
    except Exception as error:
        return [task.slot.reason(error)] * len(task.seeds)

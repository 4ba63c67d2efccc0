"""The functions that run in the worker processes of a grid."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import multiprocessing
import os
import platform
import runpy
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_surrogate import __version__, datasets
from keras_surrogate.comparison.trainer import Trainer

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike
    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.comparison.results import Run
    from keras_surrogate.datasets import Dataset

# The process that imported TensorFlow. In a fork of it, TensorFlow waits for threads that the fork
# does not have.
_IMPORTED_IN = os.getpid()
# An executor may run several tasks in threads of one process. Keras builds one model at a time.
_ONE_AT_A_TIME = threading.Lock()
# The newest `Trainer`, so that the next seed of its case needs no tracing.
_trainers: dict[tuple[Case, Settings], Trainer] = {}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The part of a task that is the same for all tasks of a grid.

    Attributes:
        home: the computer and process that hand out the tasks.
        threads: the threads that an operation of TensorFlow may use. A convolution's gradients
            are sums over threads, so that their last bits depend on the number.
        data_dir: the folder of the data's files, or None.
        grid_file: the Python file that defined the grid, and perhaps functions for it, or None.
    """

    home: tuple[str, int]
    threads: int
    data_dir: Path | None
    grid_file: Path | None

    @classmethod
    def of(cls, data_dir: PathLike | None, grid_file: Path | None) -> Settings:
        """The settings of tasks that this process hands out."""
        # A worker may be in another folder.
        folder = None if data_dir is None else Path(data_dir).absolute()
        return cls(this_process(), threads(), folder, grid_file)


def this_process() -> tuple[str, int]:
    """The names of the computer and of the process."""
    return platform.node(), os.getpid()


def cores() -> set[int]:
    """The processor cores that this process may use."""
    # Linux has it, and most other systems do not.
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def threads() -> int:
    """The number of threads that an operation of TensorFlow may use in this process."""
    configured = tf.config.threading.get_intra_op_parallelism_threads()
    # 0 is TensorFlow's word for its default.
    return configured or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or len(cores())


def versions() -> dict[str, str]:
    """The versions with which this process trains.

    Raises:
        RuntimeError: the process was forked from one that had imported TensorFlow.
    """
    if os.getpid() != _IMPORTED_IN:
        raise RuntimeError(
            "the process was forked from one that had imported TensorFlow, which hangs in a fork; "
            'give ProcessPoolExecutor mp_context=multiprocessing.get_context("spawn")'
        )
    return {
        "keras_surrogate": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }


def train(case: Case, seeds: Sequence[int], settings: Settings) -> list[Run | str]:
    """Train a case from some seeds.

    Returns:
        For each seed its `Run`, or in words why it has none.
    """
    with _ONE_AT_A_TIME:
        _use_threads(settings)
        return [_result(case, seed, settings) for seed in seeds]


def _result(case: Case, seed: int, settings: Settings) -> Run | str:
    try:
        return _trainer(case, settings).run(seed)
    except Exception as error:
        return in_words(error)


def in_words(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")


def _trainer(case: Case, settings: Settings) -> Trainer:
    key = (case, settings)
    if key not in _trainers:
        _trainers.clear()
        # The trainer's model and functions refer to each other.
        gc.collect()
        _define_functions(case, settings.grid_file)
        _trainers[key] = Trainer(case, _data(case.data, settings.data_dir))
    return _trainers[key]


# A grid of several data sets goes through them one after the other.
@functools.lru_cache(maxsize=1)
def _data(name: str, folder: Path | None) -> Dataset:
    return datasets.load(name, folder)


def _define_functions(case: Case, grid_file: Path | None) -> None:
    """Run the grid's file if this process does not know the case's functions."""
    try:
        _ = case.pair
    except ValueError:
        if grid_file is None:
            raise
        runpy.run_path(str(grid_file))


@functools.cache
def _use_threads(settings: Settings) -> None:
    """Let TensorFlow use as many threads as where the tasks come from."""
    if settings.home == this_process():
        return
    # A RuntimeError: TensorFlow has computed here before, with the threads that it has.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(settings.threads)


def start(share: set[int]) -> None:
    """Prepare a process that this package has started.

    It ends when its parent ends, leaves Ctrl-C to the parent, and stays on some of the cores.

    Args:
        share: the processor cores; empty for all.
    """
    # A terminal sends Ctrl-C to all processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after_parent, daemon=True).start()
    # The number of threads is that of the parent, so that only this keeps processes apart.
    if share and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    parent.join()
    # Not sys.exit, which would end this thread only.
    os._exit(1)

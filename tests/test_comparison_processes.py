"""Grids in several processes: the results of one process, and what is left when workers fail."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

import pytest

from keras_surrogate import comparison
from keras_surrogate.comparison import notation, processes, tasks, worker
from keras_surrogate.comparison import trainer as trainers
from keras_surrogate.functions.base import COLLECTION

SMALL = {"depth": 2, "width": 8, "epochs": 2, "images": 320}
GRID = comparison.Grid(backward=["true", "tanh", "softplus"], seeds=2, **SMALL)
# Dense layers, convolutions and normalisations: their gradients are sums over threads.
MIXED = (
    comparison.Grid(seeds=2, **SMALL)
    + comparison.Grid(backward="softplus", normalization="batch", seeds=2, **SMALL)
    + comparison.Grid(
        network="vgg", normalization=["none", "layer"], seeds=2, **{**SMALL, "depth": 4}
    )
)


def without_times(runs):
    return {key: dataclasses.replace(run, seconds=0.0) for key, run in runs.items()}


def serial(grid, folder):
    finished = comparison.run(grid, folder / "serial.jsonl")
    return without_times(finished.runs)


@pytest.fixture
def threads():
    with futures.ThreadPoolExecutor(3) as executor:
        yield executor


class ByHand(futures.Executor):
    """An executor that keeps its tasks, and runs those that it is told to."""

    def __init__(self, runs=lambda function, *arguments: False):
        self.submitted = []
        self.runs = runs

    def submit(self, function, /, *arguments):
        future = futures.Future()
        self.submitted.append((future, function, arguments))
        if function is worker.versions or self.runs(function, *arguments):
            future.set_result(function(*arguments))
        return future


# The order of the work.


def test_a_job_is_a_case_or_as_many_of_its_seeds_as_asked_for():
    missing = comparison.Grid(depth=[1, 2], seeds=5).runs
    assert [(job.case.depth, job.seeds) for job in tasks.jobs(missing[2:])] == [
        (1, [2, 3, 4]),
        (2, [0, 1, 2, 3, 4]),
    ]
    parts = [job.seeds for job in tasks.jobs(missing, seeds_at_most=2)]
    assert parts == [[0, 1], [2, 3], [4]] * 2


@pytest.mark.parametrize("slots", [1, 2, 3, 20])
@pytest.mark.parametrize("depths", [[1], [1, 2], [1, 2, 3, 4, 5]])
def test_every_training_is_handed_out_once_and_no_process_is_idle_while_there_is_work(
    slots, depths, monkeypatch
):
    grid = comparison.Grid(depth=depths, seeds=6)
    executors = [ByHand() for _ in range(slots)]
    monkeypatch.setattr(worker, "train", lambda case, seeds, _: [f"{seed}" for seed in seeds])
    places = [processes.Borrowed(executor) for executor in executors]
    schedule = tasks.Schedule(tasks.jobs(grid.runs), places, None, seeds_per_task=1)
    waits = []

    def one_ends(running, return_when):
        """The task that was handed out first ends."""
        waits.append(len(running))
        by_age = {id(future): future for future in running}
        future = next(by_age[key] for key in by_age)
        for executor in executors:
            for one, function, arguments in executor.submitted:
                if one is future:
                    one.set_result(function(*arguments))
        return {future}, None

    monkeypatch.setattr(tasks.futures, "wait", one_ends)
    found = [(case, seed) for case, seed, _ in schedule.results()]
    assert sorted(found, key=grid.runs.index) == grid.runs
    left = range(len(grid), 0, -1)
    assert waits == [min(slots, number) for number in left]
    if slots <= len(depths):
        first = [executor.submitted[0][2][0].depth for executor in executors]
        assert first == depths[:slots]


def test_a_job_stays_with_its_process():
    executor = ByHand(lambda *_: False)
    slots = [processes.Borrowed(executor)]
    schedule = tasks.Schedule(tasks.jobs(GRID.runs), slots, None, seeds_per_task=1)
    results = schedule.results()
    running = threading.Thread(target=lambda: list(results))
    running.start()
    for number in range(len(GRID)):
        while len(executor.submitted) <= number:
            time.sleep(0.001)
        future, _, (case, seeds, _) = executor.submitted[number]
        assert (case, seeds[0]) == GRID.runs[number]
        future.set_result(["done"])
    running.join()


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr(worker, "cores", lambda: {2, 3, 5, 7, 8})
    assert processes.shares(1) == [{2, 3, 5, 7, 8}]
    assert processes.shares(2) == [{2, 3}, {5, 7, 8}]
    assert processes.shares(5) == [{2}, {3}, {5}, {7}, {8}]
    assert processes.shares(6) == [set()] * 6


# Any executor.


def test_an_executor_gives_the_results_of_one_process(threads, tmp_path):
    expected = serial(GRID, tmp_path)
    for number, options in enumerate([{}, {"seeds_per_task": 1}]):
        path = tmp_path / f"{number}.jsonl"
        finished = comparison.run(GRID, path, executor=threads, **options)
        assert without_times(finished.runs) == expected
        assert list(finished.runs) == GRID.runs
        assert without_times(comparison.read(path)) == expected
        assert not finished.failed and not finished.interrupted
    # The executor is the user's.
    assert threads.submit(abs, -1).result() == 1


def test_trainings_in_threads_of_one_process_take_turns(threads, tmp_path, monkeypatch):
    inside = []
    most = []
    run = trainers.Trainer.run

    def watched(self, seed):
        inside.append(seed)
        most.append(len(inside))
        finished = run(self, seed)
        inside.remove(seed)
        return finished

    monkeypatch.setattr(trainers.Trainer, "run", watched)
    comparison.run(GRID, tmp_path / "results.jsonl", executor=threads, seeds_per_task=1)
    assert most == [1] * len(GRID)


def test_an_executor_continues_what_was_begun_and_trains_nothing_twice(
    threads, tmp_path, monkeypatch
):
    path = tmp_path / "results.jsonl"
    expected = serial(GRID, tmp_path)
    lines = (tmp_path / "serial.jsonl").read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))
    made = []
    run = trainers.Trainer.run
    monkeypatch.setattr(
        trainers.Trainer, "run", lambda self, seed: made.append(seed) or run(self, seed)
    )
    finished = comparison.run(GRID, path, executor=threads)
    assert without_times(finished.runs) == expected
    assert len(made) == 3
    comparison.run(GRID, path, executor=ByHand())
    assert len(made) == 3


def failing(monkeypatch, seed_that_fails, error):
    """Make one training of the tanh case fail."""
    run = trainers.Trainer.run

    def fails(self, seed):
        if self.case.backward == "tanh" and seed == seed_that_fails:
            raise error
        return run(self, seed)

    monkeypatch.setattr(trainers.Trainer, "run", fails)


def test_a_training_that_fails_is_named_and_costs_no_other(threads, tmp_path, monkeypatch, capsys):
    expected = serial(GRID, tmp_path)
    path = tmp_path / "results.jsonl"
    capsys.readouterr()
    with monkeypatch.context() as context:
        failing(context, 0, MemoryError("no\nmemory."))
        with pytest.warns(UserWarning) as caught:
            finished = comparison.run(GRID, path, executor=threads)
    ((case, seed),) = finished.failed
    assert (case.backward, seed) == ("tanh", 0)
    assert finished.failed[case, seed] == "MemoryError: no memory"
    assert "slope tanh, seed 0 (MemoryError: no memory)" in str(caught[-1].message)
    assert "slope tanh, seed 0: failed: MemoryError: no memory" in capsys.readouterr().err
    assert "failed 1" in repr(finished)
    del expected[case, seed]
    assert without_times(finished.runs) == expected
    # Again: only that one is made.
    again = comparison.run(GRID, path, executor=threads)
    assert list(again.runs) == GRID.runs and not again.failed
    assert len(path.read_text().splitlines()) == len(GRID)


def test_many_failures_are_counted(threads, tmp_path, monkeypatch):
    grid = comparison.Grid(seeds=15, **SMALL)
    monkeypatch.setattr(trainers.Trainer, "run", lambda *_: 1 / 0)
    with pytest.warns(UserWarning) as caught:
        finished = comparison.run(grid, tmp_path / "results.jsonl", executor=threads)
    assert len(finished.failed) == 15
    message = str(caught[-1].message)
    assert message.count("ZeroDivisionError") == 10 and "; and 5 more." in message


def test_an_executor_that_breaks_loses_only_what_it_has_not_finished(tmp_path):
    class Breaks(ByHand):
        def submit(self, function, /, *arguments):
            number = len(self.submitted)
            # The first task is the question for versions.
            if number == 3:
                raise BrokenProcessPool("a child process terminated abruptly")
            future = super().submit(function, *arguments)
            if number == 2:
                future.set_exception(BrokenProcessPool("a child process terminated abruptly"))
            return future

    executor = Breaks(lambda _, case, *rest: case.backward == "true")
    with pytest.warns(UserWarning, match="Failed trainings"):
        finished = comparison.run(GRID, tmp_path / "results.jsonl", executor=executor)
    assert {case.backward for case, _ in finished.runs} == {"true"}
    assert {case.backward for case, _ in finished.failed} == {"tanh", "softplus"}
    assert len(finished.runs) == 2 and len(finished.failed) == 4
    assert all(text.startswith("BrokenProcessPool: a child") for text in finished.failed.values())


def test_ctrl_c_cancels_the_tasks_of_an_executor(tmp_path, monkeypatch):
    executor = ByHand(lambda _, case, *rest: case.backward == "true")
    wait = futures.wait
    done = []

    def interrupted(*arguments, **options):
        if done:
            raise KeyboardInterrupt
        done.append(True)
        return wait(*arguments, **options)

    monkeypatch.setattr(tasks.futures, "wait", interrupted)
    finished = comparison.run(GRID, tmp_path / "results.jsonl", executor=executor)
    assert finished.interrupted and len(finished.runs) == 2 and not finished.failed
    _, _, *others = [future for future, *_ in executor.submitted]
    assert len(others) == 2 and all(future.cancelled() for future in others)


# Mistakes.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"processes": 0}, ValueError, "processes must be an integer of at least 1, but is 0"),
        ({"processes": 2.0}, ValueError, "processes must be an integer"),
        ({"processes": True}, ValueError, "processes must be an integer"),
        ({"executor": 2}, TypeError, "executor must be a concurrent.futures.Executor.* but is 2"),
        (
            {"executor": futures.ProcessPoolExecutor},
            TypeError,
            "but is <class 'concurrent.futures.process.ProcessPoolExecutor'>",
        ),
        ({"executor": ByHand(), "processes": 2}, ValueError, "or processes=2, not both"),
        ({"executor": ByHand(), "seeds_per_task": 0}, ValueError, "seeds_per_task must be"),
        ({"seeds_per_task": 1}, ValueError, "goes with an executor"),
    ],
)
def test_workers_without_meaning_are_refused(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        comparison.run(GRID, tmp_path / "results.jsonl", **options)
    assert not (tmp_path / "results.jsonl").exists()


class Fails(futures.Executor):
    """An executor without the package in its workers."""

    def submit(self, function, /, *arguments):
        future = futures.Future()
        future.set_exception(ModuleNotFoundError("No module named 'keras_surrogate'"))
        return future


def shut_down():
    executor = futures.ThreadPoolExecutor(1)
    executor.shutdown()
    return executor


def old():
    executor = ByHand()
    executor.submit = lambda *_: _done({**worker.versions(), "tensorflow": "2.0.0"})
    return executor


def _done(result):
    future = futures.Future()
    future.set_result(result)
    return future


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Fails, "cannot train: ModuleNotFoundError: No module named 'keras_surrogate'. They need"),
        (shut_down, "cannot train: RuntimeError: cannot schedule new futures after shutdown"),
        (old, "cannot train as this process does: they have tensorflow 2.0.0."),
    ],
)
def test_workers_that_cannot_train_are_one_error_before_anything_is_trained(
    make, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        comparison.run(GRID, tmp_path / "results.jsonl", executor=make())
    assert (tmp_path / "results.jsonl").read_text() == ""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="has no fork")
# Python 3.12 and later warn of forks of processes with threads.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_workers_are_refused_because_tensorflow_hangs_in_them(tmp_path):
    context = multiprocessing.get_context("fork")
    with (
        futures.ProcessPoolExecutor(1, mp_context=context) as executor,
        pytest.raises(ValueError, match=r'get_context\("spawn"\)'),
    ):
        comparison.run(GRID, tmp_path / "results.jsonl", executor=executor)


def test_threads_are_those_that_were_set_or_one_for_each_core(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert worker.threads() == len(worker.cores())
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    assert worker.threads() == 7


# Real processes, which take seconds to start.

PLANTED = '''
import multiprocessing, os, signal, time
from pathlib import Path

import keras
from keras_surrogate import functions
from keras_surrogate.comparison import Grid

FOLDER = Path({folder!r})


class PlantedSlope(functions.Function):
    """Softplus, whose slope harms the worker processes in which it is computed."""

    def value(self, x):
        return keras.ops.softplus(x)

    def slope(self, x):
        if multiprocessing.parent_process() is not None:
            (FOLDER / f"{{os.getpid()}}.pid").touch()
            {harm}
        return keras.ops.sigmoid(x)


grid = Grid(backward=["true", "planted_slope", "tanh"], seeds=2, **{settings!r})
'''
# Once, so that the next process lives.
KILL = (
    'not list(FOLDER.glob("*.killed")) and (FOLDER / "1.killed").touch() is None and '
    "os.kill(os.getpid(), signal.SIGKILL)"
)
SLEEP = "time.sleep(600)"


@pytest.fixture
def planted(tmp_path):
    """Writes a grid file whose function does harm; forgets the function in the end."""

    def write(harm):
        path = tmp_path / "planted.py"
        path.write_text(PLANTED.format(folder=str(tmp_path), harm=harm, settings=SMALL))
        return path

    yield write
    COLLECTION.pop("planted_slope", None)
    notation.function.cache_clear()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that has ended and that nobody waits for has no command.
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as file:
        return bool(file.read())
    return False


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_process_is_renewed_after_many_tasks(monkeypatch):
    """TensorFlow never frees some graphs."""
    monkeypatch.setattr(processes, "_MOST_TASKS", 2)
    with processes.own(1) as (slot,):
        # The first task has compared the versions.
        first, *others = [slot.submit(os.getpid).result() for _ in range(4)]
        assert len({first, *others}) == 3 and others[0] == others[1]


@pytest.mark.slow
def test_two_processes_give_the_results_of_one_to_the_last_bit(tmp_path, capfd):
    expected = serial(MIXED, tmp_path)
    before = multiprocessing.active_children()
    path = tmp_path / "results.jsonl"
    finished = comparison.run(MIXED, path, processes=2)
    assert without_times(finished.runs) == expected
    assert list(finished.runs) == MIXED.runs
    assert len(path.read_text().splitlines()) == len(MIXED)
    rows = comparison.summarize(MIXED, comparison.read(path))
    expected_rows = comparison.summarize(MIXED, comparison.read(tmp_path / "serial.jsonl"))
    assert comparison.markdown(rows) == comparison.markdown(expected_rows)
    assert multiprocessing.active_children() == before
    shown = capfd.readouterr().err
    assert f"{len(MIXED)} of {len(MIXED)}: " in shown and "Traceback" not in shown


@pytest.mark.slow
def test_a_killed_process_loses_its_own_training_only(tmp_path, planted):
    grid = comparison.load_grid(planted(KILL))
    path = tmp_path / "results.jsonl"
    with pytest.warns(UserWarning, match="its process was killed by signal 9"):
        finished = comparison.run(grid, path, processes=2)
    ((case, seed),) = finished.failed
    assert (case.backward, seed) == ("planted_slope", 0)
    assert list(finished.runs) == [key for key in grid.runs if key != (case, seed)]
    # The same call repeats it.
    expected = serial(grid, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = comparison.run(grid, path, processes=2)
    assert without_times(again.runs) == expected
    assert len(path.read_text().splitlines()) == len(grid)


@pytest.mark.slow
def test_a_killed_worker_of_the_users_pool_is_named_and_what_was_finished_is_kept(
    tmp_path, planted
):
    grid = comparison.load_grid(planted(KILL))
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "results.jsonl"
    with (
        futures.ProcessPoolExecutor(1, mp_context=context) as executor,
        pytest.warns(UserWarning, match="planted slope|planted_slope"),
    ):
        finished = comparison.run(grid, path, executor=executor)
    assert {case.backward for case, _ in finished.runs} == {"true"}
    assert {case.backward for case, _ in finished.failed} == {"planted_slope", "tanh"}
    assert all("BrokenProcessPool" in reason for reason in finished.failed.values())


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "keras_surrogate", "compare", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A group of its own, as a terminal gives it to a command.
        start_new_session=True,
        **options,
    )


def pids(folder):
    return [int(path.stem) for path in folder.glob("*.pid")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_workers_end_with_the_command_and_it_continues(number, tmp_path, planted):
    path = tmp_path / "results.jsonl"
    arguments = [planted(SLEEP), "--output", path, "--processes", 2]
    process = command(*arguments)
    try:
        # One process sleeps in the planted case; the other makes the rest.
        until(lambda: path.exists() and path.read_text().count("\n") == 4, 120)
        (sleeping,) = pids(tmp_path)[:1]
        assert is_alive(sleeping)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.kill()
        out, err = process.communicate(timeout=600)
        until(lambda: not any(map(is_alive, pids(tmp_path))))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "4 of 6 trainings are finished; the same command continues." in out
    grid = comparison.load_grid(planted("pass"))
    finished = comparison.run(grid, path, processes=2)
    assert without_times(finished.runs) == serial(grid, tmp_path)


@pytest.mark.slow
def test_a_script_without_a_guard_is_one_clear_error(tmp_path):
    (tmp_path / "script.py").write_text(
        "from keras_surrogate import comparison\n"
        f"grid = comparison.Grid(seeds=2, **{SMALL!r})\n"
        "comparison.run(grid, 'results.jsonl', processes=2)\n"
    )
    found = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 1
    assert "ValueError: The worker processes do not start: BrokenProcessPool" in found.stderr
    assert 'below if __name__ == "__main__":' in found.stderr
    assert (tmp_path / "results.jsonl").read_text() == ""


@pytest.mark.slow
# Of dask itself and of the servers that it starts.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_dask_cluster_gives_the_results_of_one_process_to_the_last_bit(tmp_path, planted):
    distributed = pytest.importorskip("distributed")
    expected = serial(MIXED, tmp_path)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=None, local_directory=str(tmp_path)
    )
    with cluster, distributed.Client(cluster) as client:
        executor = client.get_executor()
        finished = comparison.run(MIXED, tmp_path / "dask.jsonl", executor=executor)
        assert without_times(finished.runs) == expected
        # A function of the grid's file is known to the workers.
        grid = comparison.load_grid(planted("1 / 0"))
        with pytest.warns(UserWarning, match="Failed trainings"):
            finished = comparison.run(grid, tmp_path / "planted.jsonl", executor=executor)
        assert {case.backward for case, _ in finished.failed} == {"planted_slope"}
        assert all("ZeroDivisionError" in reason for reason in finished.failed.values())
        assert len(finished.runs) == 4

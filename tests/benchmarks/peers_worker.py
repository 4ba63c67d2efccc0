"""A process that holds the activations of one framework, and the pipe by which it is asked for times and memory.

TensorFlow and PyTorch in one process share the CPU badly, and a peak of memory belongs to a
process; so each framework has its own, and they are asked in turns. A question and its answer are
one line of JSON each.
"""

import gc
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

THREADS = len(os.sched_getaffinity(0))
COMPARED = 1000


class RefusedError(Exception):
    """What a worker cannot do, and why: `word` for a table, the whole for a note."""

    def __init__(self, word, reason):
        super().__init__(reason)
        self.word = word


class Worker:
    """The asking end. Called with the name of a `Server`'s method and its arguments, it returns that method's result.

    A worker that dies, for want of memory perhaps, is started anew by the next question.
    """

    def __init__(self, framework, **environment):
        self._command = [
            sys.executable,
            str(pathlib.Path(__file__).with_name(f"peers_{framework}.py")),
        ]
        threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self._environment = {**os.environ, **quiet, **threads, **environment}
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the process; the next question starts another."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __call__(self, method, *arguments):
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(json.dumps([method, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return self._result(
            json.loads(answer) if answer else {"word": "died", "reason": self._last_words()}
        )

    def _start(self):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        self._process = subprocess.Popen(self._command, text=True, env=self._environment, **pipes)

    @staticmethod
    def _result(answer):
        if "word" in answer:
            raise RefusedError(answer["word"], answer["reason"])
        return answer["result"]

    def _last_words(self):
        code, self._process = self._process.wait(), None
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["it said nothing"]
        return f"its process ended with code {code}: {lines[-1]}"


class Server:
    """The answering end, which holds the steps that were prepared, and the tensors of one size.

    Args:
        framework: a module with `step(pair, kind, compiled)`, a function from input and upstream
            gradient to value and gradient; `tensors(x, upstream)` of NumPy arrays; `array(tensor)`;
            `wait()`, for what is under way; `forget()`, for what was compiled; and `KEEPS_FREED`,
            whether freed memory stays with the process.
    """

    def __init__(self, framework):
        self.framework, self.steps, self.size, self.tensors = framework, {}, None, None

    def prepare(self, pair, kind, compiled, size):
        """Builds a step, calls it twice, and returns the first values and gradients, by which it can be compared."""
        self._draw(size)
        step = self.framework.step(pair, kind, compiled)
        results = step(*self.tensors)
        self.steps[kind] = step
        step(*self.tensors)
        return [self.framework.array(part)[:COMPARED].tolist() for part in results]

    def seconds(self, kind, calls):
        """Seconds of one call, the mean of so many."""
        if kind not in self.steps:
            raise RefusedError("lost", "its process died meanwhile, and was started anew")
        step, tensors = self.steps[kind], self.tensors
        start = time.perf_counter()
        for _ in range(calls):
            step(*tensors)
        self.framework.wait()
        return (time.perf_counter() - start) / calls

    def peak(self, pair, kind, compiled, size):
        """What a step holds at most beyond its arguments, value and gradient included, as multiples of the input.

        Where freed memory stays with the process, this must be its first large step, so that the
        warm-up is a small one; elsewhere the warm-up is of the same size, so that nothing is
        compiled in what is measured.
        """
        self.prepare(pair, kind, compiled, COMPARED if self.framework.KEEPS_FREED else size)
        self._draw(size)
        gc.collect()
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        self.steps[kind](*self.tensors)
        self.framework.wait()
        return (memory("VmHWM") - before) / (4 * self.size)

    def forget(self):
        """Drops all steps and what was compiled for them."""
        self.steps.clear()
        self.framework.forget()

    def _draw(self, size):
        if size != self.size:
            self.tensors = None
            random = np.random.default_rng(0)
            x = 2 * random.standard_normal(size, np.float32)
            self.size, self.tensors = (
                size,
                self.framework.tensors(x, random.standard_normal(size, np.float32)),
            )


def memory(entry):
    """Bytes that Linux accounts to this process: now (VmRSS), or at most since its peak was reset (VmHWM)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


def serve(framework):
    """Answers questions until there are no more. What libraries print goes to the errors, not into the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server(framework)
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(answer(server, method, arguments)), file=answers, flush=True)


def answer(server, method, arguments):
    try:
        return {"result": getattr(server, method)(*arguments)}
    except RefusedError as refused:
        return {"word": refused.word, "reason": str(refused)}
    except ModuleNotFoundError as error:
        return {"word": "not installed", "reason": f"{error.name} is not installed"}
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return {"word": "failed", "reason": f"{type(error).__name__}: {first}"}

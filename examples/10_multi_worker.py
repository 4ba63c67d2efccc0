"""Gradient norms in a custom training loop, on two workers of a distribution strategy.

    python examples/10_multi_worker.py

Keras's `fit` does not work under a MultiWorkerMirroredStrategy (keras#20585), so the example has
its own training loop. There `gradients.GradientNorms` measures the norms that `GradientNormLogger`
measures in `fit`. Two processes on this machine train on one half of each batch each; a third
process trains alone on whole batches. All three must record the same norms.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

BATCH = 64


def train(strategy: tf.distribute.Strategy, worker: int, workers: int, steps: int) -> np.ndarray:
    """Trains on one worker's share of each batch; returns the norms, shape (steps, layers)."""
    import keras
    import tensorflow as tf

    import keras_surrogate as ks

    with strategy.scope():
        keras.utils.set_random_seed(0)
        hidden = [
            keras.layers.Dense(32, activation=ks.Surrogate("sigmoid", "tanh")) for _ in range(3)
        ]
        model = keras.Sequential(
            [keras.Input((8, 8)), keras.layers.Flatten(), *hidden, keras.layers.Dense(10)]
        )
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
        norms = ks.gradients.GradientNorms(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    def step(x, y):
        with tf.GradientTape() as tape:
            # This worker's part of the mean over the whole batch. The optimizer sums the gradients
            # of the workers.
            value = loss(y, model(x, training=True)) / BATCH
        gradients = tape.gradient(value, model.trainable_variables)
        norms.record(zip(gradients, model.trainable_variables, strict=True))
        optimizer.apply(gradients, model.trainable_variables)

    run = tf.function(lambda x, y: strategy.run(step, (x, y)))
    data = ks.datasets.load("digits")
    for start in range(0, steps * BATCH, BATCH):
        share = slice(start + worker, start + BATCH, workers)
        run(tf.constant(data.x_train[share]), tf.constant(data.y_train[share]))
    return norms.norms


def work(steps: int) -> None:
    """Trains as the worker that TF_CONFIG names, or alone if it is empty; prints the norms."""
    import tensorflow as tf

    task = json.loads(os.environ["TF_CONFIG"])
    if task:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        norms = train(strategy, task["task"]["index"], len(task["cluster"]["worker"]), steps)
    else:
        norms = train(tf.distribute.get_strategy(), 0, 1, steps)
    print(json.dumps(norms.tolist()))


def start(steps: int, task: dict) -> subprocess.Popen:
    """Starts a process that runs `work`."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CONFIG": json.dumps(task)}
    command = [sys.executable, __file__, "work", str(steps)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def main(steps: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trains in all three processes.

    Returns:
        The norms of both workers and of the single process, each of shape (steps, layers).
    """
    # Two free ports; the workers listen on them after the sockets are closed.
    with (
        socket.create_server(("localhost", 0)) as one,
        socket.create_server(("localhost", 0)) as other,
    ):
        cluster = {"worker": [f"localhost:{server.getsockname()[1]}" for server in (one, other)]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]
    processes = [start(steps, task) for task in (*tasks, {})]
    outputs = [process.communicate()[0] for process in processes]
    # The norms are on the last line.
    first, second, alone = (np.array(json.loads(text.splitlines()[-1])) for text in outputs)
    between = abs(first / second - 1).max()
    to_alone = abs(first / alone - 1).max()
    print(f"norms in the last step: {first[-1]} and {second[-1]} on the workers, {alone[-1]} alone")
    print(f"largest relative difference: {between:.1e} between workers, {to_alone:.1e} to alone")
    return first, second, alone


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(int(sys.argv[2]))
    else:
        main()

"""Gradient norms in a loop of one's own, on two workers of a strategy: python examples/10_multi_worker.py

Keras's own `fit` does not work under a MultiWorkerMirroredStrategy (keras#20585), so the loop is
written by hand, and `gradients.GradientNorms` measures in it what `GradientNormLogger` measures in
`fit`. Two processes on this machine train on the halves of each batch; a third trains alone on
whole batches. All three must record the same norms.
"""

import json
import os
import socket
import subprocess
import sys

import numpy as np

BATCH = 64


def train(strategy, worker, workers, steps):
    """What one worker records while it trains on its share of each batch."""
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
            # A share of the mean over the whole batch, because the optimizer adds up the workers'
            # gradients.
            value = loss(y, model(x, training=True)) / BATCH
        gradients = tape.gradient(value, model.trainable_variables)
        norms.record(zip(gradients, model.trainable_variables, strict=True))
        optimizer.apply(gradients, model.trainable_variables)

    run, data = tf.function(lambda x, y: strategy.run(step, (x, y))), ks.datasets.load("digits")
    for start in range(0, steps * BATCH, BATCH):
        share = slice(start + worker, start + BATCH, workers)
        run(tf.constant(data.x_train[share]), tf.constant(data.y_train[share]))
    return norms.norms


def work(steps):
    """One process: the worker that TF_CONFIG says, or, where it says nothing, alone. Prints its norms."""
    import tensorflow as tf

    task = json.loads(os.environ["TF_CONFIG"])
    alone = not task
    strategy = (
        tf.distribute.get_strategy() if alone else tf.distribute.MultiWorkerMirroredStrategy()
    )
    worker, workers = (0, 1) if alone else (task["task"]["index"], len(task["cluster"]["worker"]))
    print(json.dumps(train(strategy, worker, workers, steps).tolist()))


def start(steps, task):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CONFIG": json.dumps(task)}
    command = [sys.executable, __file__, "work", str(steps)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def main(steps=20):
    """The norms that both workers and the single process recorded, each of shape (steps, layers)."""
    with (
        socket.create_server(("localhost", 0)) as one,
        socket.create_server(("localhost", 0)) as other,
    ):
        cluster = {"worker": [f"localhost:{server.getsockname()[1]}" for server in (one, other)]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]
    processes = [start(steps, task) for task in (*tasks, {})]
    first, second, alone = (
        np.array(json.loads(one.communicate()[0].splitlines()[-1])) for one in processes
    )
    print(f"norms in the last step: {first[-1]} and {second[-1]} on the workers, {alone[-1]} alone")
    print(
        f"largest relative difference {abs(first / second - 1).max():.1e} and {abs(first / alone - 1).max():.1e}"
    )
    return first, second, alone


if __name__ == "__main__":
    work(int(sys.argv[2])) if sys.argv[1:2] == ["work"] else main()

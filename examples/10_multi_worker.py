"""Gradient norms in a hand-written training loop, on two worker processes of a MultiWorkerMirroredStrategy.

python examples/10_multi_worker.py

Keras's own `fit` does not work under that strategy (keras#20585), so the loop is written by hand, and
`gradients.GradientNorms` measures in it what `GradientNormLogger` measures in `fit`. Two processes on this machine
train on the halves of each batch; a third trains alone on whole batches. All three must record the same norms.
"""

import json
import os
import socket
import subprocess
import sys

BATCH, STEPS = 64, 20


def train(strategy, worker, workers, steps):
    """The norms that one worker records, shape (steps, layers), while it trains on its share of each batch."""
    import keras
    import tensorflow as tf

    import keras_surrogate as ks

    data = ks.datasets.load("digits")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        hidden = [keras.layers.Dense(32, activation=ks.Surrogate("sigmoid", "tanh")) for _ in range(3)]
        model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), *hidden, keras.layers.Dense(10)])
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
        norms = ks.gradients.GradientNorms(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    def step(x, y):
        with tf.GradientTape() as tape:
            # The mean over the whole batch, of which this worker has a share: the optimizer adds up what they give.
            value = loss(y, model(x, training=True)) / BATCH
        gradients = tape.gradient(value, model.trainable_variables)
        norms.record(zip(gradients, model.trainable_variables, strict=True))
        optimizer.apply(gradients, model.trainable_variables)

    run = tf.function(lambda x, y: strategy.run(step, (x, y)))
    for number in range(steps):
        share = slice(number * BATCH + worker, (number + 1) * BATCH, workers)
        run(tf.constant(data.x_train[share]), tf.constant(data.y_train[share]))
    return norms


def work(steps):
    """One process: a worker of the cluster in TF_CONFIG, or, where there is none, alone. Prints its norms as JSON."""
    import tensorflow as tf

    task = json.loads(os.environ.get("TF_CONFIG", "{}"))
    if task:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        worker, workers = task["task"]["index"], len(task["cluster"]["worker"])
    else:
        strategy, worker, workers = tf.distribute.get_strategy(), 0, 1
    norms = train(strategy, worker, workers, steps)
    print(json.dumps({"layers": norms.layer_names, "norms": norms.norms.tolist()}))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(steps, cluster=None, index=0):
    """Starts this file again as one worker."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_CONFIG", None)
    if cluster:
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    command = [sys.executable, __file__, "work", str(steps)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def main(steps=STEPS):
    """Returns the norms that both workers and the single process recorded, after printing them side by side."""
    import numpy as np

    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    processes = [start(steps, cluster, 0), start(steps, cluster, 1), start(steps)]
    try:
        results = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes]
    finally:
        for process in processes:
            process.kill()
    first, second, alone = (np.array(result["norms"]) for result in results)
    print(f"{'layer':10} {'worker 0':>10} {'worker 1':>10} {'alone':>10}   gradient norm in the last of {steps} steps")
    for name, *norms in zip(results[0]["layers"], first[-1], second[-1], alone[-1], strict=True):
        print(f"{name:10} " + " ".join(f"{norm:10.6f}" for norm in norms))
    print(f"largest relative difference: between workers {difference(first, second):.1e}", end=", ")
    print(f"to one process {difference(first, alone):.1e}")
    return first, second, alone


def difference(one, other):
    return abs(one / other - 1).max()


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(int(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))

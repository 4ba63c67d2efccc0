"""Three documented runs of spiking networks, in Keras, from five starts each.

    python examples/published/spiking_tutorials.py [--data-dir FOLDER] [NETWORK ...]

snntorch: tutorial 5 of snnTorch. MNIST, 784-1000-10 leaky neurons, 25 steps of the image as the
    current, leak .95, reset one step later, arctan's slope, cross-entropy of the potentials summed
    over the steps, Adam at .0005, batches of 128, one epoch. One run: 93.87 %.
spikingjelly: its example lif_fc_mnist. MNIST, 784-10 without bias, tau 2 (leak .5, and half of the
    current enters), 100 steps of Poisson spikes, reset to zero and not detached, sigmoid's slope of
    sharpness 4, mean squares of the firing rates, Adam at .001, batches of 64. Published: 92.9 %
    after 100 epochs; here 3.
spytorch: tutorial 2 of SpyTorch. Fashion-MNIST as first-spike latencies in 100 steps of 1 ms, 100
    hidden neurons with synapses (tau 10 and 5 ms), SuperSpike's slope with 100, cross-entropy of
    the largest potential over time, Adam at .0002, batches of 256. One run: 86.3 % after 30 epochs;
    here 10. Its regularisation of the activity is left out.
"""

from __future__ import annotations

import argparse
import functools
import math

import keras
import study
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import datasets, layers

# The published accuracy in % and its epochs; the epochs here; the data.
PUBLISHED = {
    "snntorch": (93.87, 1, 1, "mnist"),
    "spikingjelly": (92.9, 100, 3, "mnist"),
    "spytorch": (86.3, 30, 10, "fashion-mnist"),
}
SEEDS = range(5)


def potentials_loss(labels: tf.Tensor, potentials: tf.Tensor) -> tf.Tensor:
    """The cross-entropy of the potentials in each step, summed over the steps."""
    steps = potentials.shape[1]
    repeated = tf.repeat(tf.reshape(labels, [-1, 1]), steps, axis=1)
    losses = keras.losses.sparse_categorical_crossentropy(repeated, potentials, from_logits=True)
    return tf.reduce_sum(losses, axis=1)


def rates_loss(labels: tf.Tensor, rates: tf.Tensor) -> tf.Tensor:
    """The mean square of the rates less 1 for the right class and 0 for others."""
    wanted = tf.one_hot(tf.reshape(tf.cast(labels, "int32"), [-1]), rates.shape[1])
    return tf.reduce_mean(tf.square(rates - wanted), axis=1)


def snntorch() -> keras.Model:
    """The network of snnTorch's tutorial 5, which returns potentials; a class is a spike count."""
    neuron = functools.partial(layers.LIF, leak=0.95, reset_delay=True, surrogate="atan_spike")
    inputs = keras.Input((28, 28))
    # The same current in each step, so that the first layer runs once.
    currents = layers.ConstantCurrent(25)(torch_dense(784, 1000)(keras.layers.Flatten()(inputs)))
    hidden = neuron()(currents)
    spikes, potentials = neuron(return_potential=True)(torch_dense(1000, 10)(hidden))
    counts = layers.SpikeCount(name="counts")(spikes)
    model = keras.Model(inputs, {"potentials": potentials, "counts": counts})
    model.compile(
        keras.optimizers.Adam(0.0005),
        {"potentials": potentials_loss, "counts": None},
        metrics={"counts": "sparse_categorical_accuracy"},
        steps_per_execution=20,
    )
    return model


def spikingjelly() -> keras.Model:
    """The network of spikingjelly's lif_fc_mnist, which returns firing rates."""
    slope = ks.Surrogate("step", ks.functions.get("scaled_sigmoid", alpha=4.0))
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            layers.PoissonEncoder(100),
            # Half of the current enters, as 1 / tau.
            keras.layers.Rescaling(0.5),
            torch_dense(784, 10, use_bias=False),
            layers.LIF(leak=0.5, reset="zero", detach_reset=False, surrogate=slope, unroll=False),
            layers.SpikeCount(average=True),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.001),
        rates_loss,
        metrics=["sparse_categorical_accuracy"],
        steps_per_execution=20,
    )
    return model


def spytorch() -> keras.Model:
    """The network of SpyTorch's tutorial 2, which returns the largest potentials."""
    membrane = math.exp(-1 / 10)
    synapse = math.exp(-1 / 5)
    scale = 7 * (1 - membrane)

    def dense(inputs: int, units: int) -> keras.layers.Layer:
        drawn = keras.initializers.RandomNormal(stddev=scale / math.sqrt(inputs))
        return keras.layers.Dense(units, use_bias=False, kernel_initializer=drawn)

    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            layers.LatencyEncoder(100, threshold=0.2, tau=20.0),
            dense(784, 100),
            layers.SynapticLIF(
                synaptic_leak=synapse, leak=membrane, reset="zero", surrogate="superspike"
            ),
            dense(100, 10),
            layers.LI(leak=synapse),
            layers.LI(leak=membrane),
            layers.MaxPotential(),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.0002),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["sparse_categorical_accuracy"],
        steps_per_execution=20,
    )
    return model


def torch_dense(inputs: int, units: int, use_bias: bool = True) -> keras.layers.Layer:
    """A Dense layer that starts as torch's Linear: uniform within 1 / sqrt(inputs)."""
    bound = 1 / math.sqrt(inputs)
    uniform = functools.partial(keras.initializers.RandomUniform, -bound, bound)
    return keras.layers.Dense(
        units, use_bias=use_bias, kernel_initializer=uniform(), bias_initializer=uniform()
    )


NETWORKS = {"snntorch": snntorch, "spikingjelly": spikingjelly, "spytorch": spytorch}
BATCHES = {"snntorch": 128, "spikingjelly": 64, "spytorch": 256}


def train(data_dir: str | None, network: str, seed: int, epochs: int) -> dict[str, float]:
    """Train one network; its accuracy on the test images."""
    name = PUBLISHED[network][3]
    data = datasets.load(name, data_dir if name == "mnist" else None)
    keras.utils.set_random_seed(seed)
    model = NETWORKS[network]()
    is_pair = network == "snntorch"

    def targets(y: tf.Tensor) -> object:
        return {"potentials": y, "counts": y} if is_pair else y

    model.fit(
        data.x_train,
        targets(data.y_train),
        batch_size=BATCHES[network],
        epochs=epochs,
        verbose=0,
    )
    found = model.evaluate(
        data.x_test, targets(data.y_test), batch_size=500, verbose=0, return_dict=True
    )
    (accuracy,) = (value for key, value in found.items() if key.endswith("accuracy"))
    return {"test": accuracy}


def main(networks: list[str], data_dir: str | None = None) -> None:
    """Train what is missing of some networks, and write the table of all that are complete."""
    train_on = functools.partial(train, data_dir)
    lines = []
    for network, (published, their_epochs, epochs, _) in PUBLISHED.items():
        settings = [{"network": network, "seed": seed, "epochs": epochs} for seed in SEEDS]
        if network in networks:
            study.run("spiking_tutorials", settings, train_on)
        known = study.read("spiking_tutorials")
        mine = [
            one["test"] for one in known if one["network"] == network and one["epochs"] == epochs
        ]
        if len(mine) == len(SEEDS):
            span = f"{100 * min(mine):.2f} to {100 * max(mine):.2f}"
            lines.append([network, published, their_epochs, study.percent(mine), epochs, span])
    heading = ["network", "published, %", "epochs", "ours, %", "epochs", "five starts"]
    study.write("spiking_tutorials", study.markdown(heading, lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(PUBLISHED), metavar="NETWORK")
    parser.add_argument("--data-dir", help="folder with the four idx files of MNIST")
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(PUBLISHED)
    if unknown:
        parser.error(f"unknown networks {sorted(unknown)}; there are {list(PUBLISHED)}")
    main(arguments.networks, arguments.data_dir)

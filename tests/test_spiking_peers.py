"""Neurons against the established libraries, whose values tests/reference/spiking_reference.py keeps."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import functions, layers

REFERENCE = np.load(Path(__file__).parent / "reference" / "spiking.npz")

# snnTorch does not fire at the threshold itself.
FAST = ks.Surrogate(functions.Step(at_zero=0.0), functions.FastSigmoid(5.0))
ATAN = ks.Surrogate("step", functions.Atan(2.0))
ATTACHED = {"detached": True, "attached": False}

CASES = {
    **{
        f"snntorch leaky {reset}": layers.neurons.LIFNeuron(
            reset=reset, reset_delay=True, surrogate=FAST
        )
        for reset in ("subtract", "zero", "none")
    },
    **{
        f"snntorch synaptic {reset}": layers.neurons.SynapticLIFNeuron(
            reset=reset, reset_delay=True, surrogate=FAST
        )
        for reset in ("subtract", "none")
    },
    **{
        f"spikingjelly {reset} {how}": layers.neurons.LIFNeuron(
            reset=reset, detach_reset=detach, surrogate=ATAN
        )
        for reset in ("subtract", "zero")
        for how, detach in ATTACHED.items()
    },
}


def batch_first(array):
    return np.swapaxes(array, 0, 1)


def test_every_case_of_the_reference_is_compared():
    assert {name.split("/")[0] for name in REFERENCE.files if "/" in name} == set(CASES)


@pytest.mark.parametrize("unroll", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_spikes_and_gradients_are_those_of_the_peer(name, unroll):
    layer = layers.Spiking(CASES[name], return_potential=True, unroll=unroll, dtype="float64")
    currents = tf.constant(batch_first(REFERENCE["currents"]))
    with tf.GradientTape() as tape:
        tape.watch(currents)
        spikes, potentials = layer(currents)
        loss = tf.reduce_sum(spikes * batch_first(REFERENCE["of_spikes"]))
        loss += tf.reduce_sum(potentials * batch_first(REFERENCE["of_potentials"]))
    expected = batch_first(REFERENCE[f"{name}/spikes"])
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_allclose(potentials, batch_first(REFERENCE[f"{name}/potentials"]), 1e-5, 1e-6)
    gradient = tape.gradient(loss, currents)
    np.testing.assert_allclose(gradient, batch_first(REFERENCE[f"{name}/gradient"]), 1e-4, 1e-6)

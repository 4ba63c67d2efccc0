"""Spikes, potentials and gradients of the peers, kept in spiking.npz for tests/test_spiking_peers.py.

    pip install torch snntorch==1.0.0 spikingjelly==2.0.0
    python tests/reference/spiking_reference.py

Each case is a neuron on fixed currents of shape (time, batch, units), with fixed gradients of the
spikes and of the potentials. All in float64, so that no spike depends on rounding.
"""

from pathlib import Path

import numpy as np
import snntorch
import torch
from snntorch import surrogate as snntorch_surrogate
from spikingjelly.activation_based import neuron, surrogate

STEPS = 30
K = 5.0
ALPHA = 2.0

generator = np.random.default_rng(16)
CURRENTS = generator.normal(0.25, 0.6, (STEPS, 3, 4))
OF_SPIKES = generator.normal(size=CURRENTS.shape)
OF_POTENTIALS = generator.normal(size=CURRENTS.shape)


def snntorch_case(cls, reset, **leaks):
    leaks = {name: torch.tensor(value, dtype=torch.float64) for name, value in leaks.items()}
    layer = cls(
        **leaks,
        threshold=torch.tensor(1.0, dtype=torch.float64),
        reset_mechanism=reset,
        spike_grad=snntorch_surrogate.fast_sigmoid(K),
    )
    currents = torch.tensor(CURRENTS, requires_grad=True)
    state = [torch.zeros(CURRENTS.shape[1:], dtype=torch.float64) for _ in leaks]
    spikes, potentials = [], []
    for current in currents:
        spike, *state = layer(current, *state)
        spikes.append(spike)
        potentials.append(state[-1])
    return currents, torch.stack(spikes), torch.stack(potentials)


def spikingjelly_case(reset, detach):
    layer = neuron.LIFNode(
        tau=10.0,
        decay_input=False,
        v_threshold=1.0,
        v_reset={"subtract": None, "zero": 0.0}[reset],
        surrogate_function=surrogate.ATan(ALPHA),
        detach_reset=detach,
        step_mode="s",
    )
    currents = torch.tensor(CURRENTS, requires_grad=True)
    spikes, potentials = [], []
    for current in currents:
        spikes.append(layer(current))
        potentials.append(layer.v)
    return currents, torch.stack(spikes), torch.stack(potentials)


def record(currents, spikes, potentials):
    # snnTorch's spikes are always float32.
    assert potentials.dtype == torch.float64
    loss = (spikes * torch.tensor(OF_SPIKES)).sum() + (
        potentials * torch.tensor(OF_POTENTIALS)
    ).sum()
    loss.backward()
    return spikes.detach().numpy(), potentials.detach().numpy(), currents.grad.numpy()


def main():
    cases = {
        f"snntorch leaky {reset}": snntorch_case(snntorch.Leaky, reset, beta=0.9)
        for reset in ("subtract", "zero", "none")
    }
    for reset in ("subtract", "none"):
        cases[f"snntorch synaptic {reset}"] = snntorch_case(
            snntorch.Synaptic, reset, alpha=0.8, beta=0.9
        )
    for reset in ("subtract", "zero"):
        for detach in (True, False):
            name = f"spikingjelly {reset} {'detached' if detach else 'attached'}"
            cases[name] = spikingjelly_case(reset, detach)
    arrays = {"currents": CURRENTS, "of_spikes": OF_SPIKES, "of_potentials": OF_POTENTIALS}
    for name, case in cases.items():
        spikes, potentials, gradient = record(*case)
        print(f"{name}: {spikes.mean():.2f} spikes a step")
        arrays[f"{name}/spikes"] = spikes.astype("uint8")
        arrays[f"{name}/potentials"] = potentials
        arrays[f"{name}/gradient"] = gradient
    np.savez_compressed(Path(__file__).with_name("spiking.npz"), **arrays)


if __name__ == "__main__":
    main()

"""Spikes of snnTorch and norse for the NIR files of tests/nir_models.py, kept in nir.npz.

    pip install torch nir==1.0.8 snntorch==1.0.0 norse==1.1.0
    python tests/reference/nir_reference.py

The currents are in the .npy files beside the .nir files, (batch, time, ...) with the channels last.
"""

from pathlib import Path

import nir
import norse.torch
import numpy as np
import snntorch.import_nir
import torch

FOLDER = Path(__file__).parent
DT = 1e-4


# norse 1.1.0 leaves R out of a LIF, and has no AvgPool2d and no loops.
PEERS = {
    "dense": ("snntorch",),
    "synaptic": ("snntorch", "norse"),
    "convolution": ("snntorch",),
    "recurrent": ("snntorch",),
}


def run(peer, path, sample):
    """The spikes of one sample, because the Flatten of a NIR graph knows no batch."""
    graph = nir.read(path)
    if peer == "snntorch":
        net = snntorch.import_nir.import_from_nir(graph)
    else:
        net = norse.torch.from_nir(graph, dt=DT)
    state = None
    spikes = []
    for current in torch.tensor(sample)[:, None]:
        result = net(current, state)
        spike, state = result if isinstance(result, tuple) else (result, None)
        spikes.append(spike.detach().numpy())
    return np.stack(spikes)


def main():
    arrays = {}
    for path in sorted(FOLDER.glob("nir_*.nir")):
        name = path.stem.removeprefix("nir_")
        currents = np.load(FOLDER / f"nir_{name}.npy")
        if currents.ndim > 3:
            # NIR has the channels first.
            currents = np.moveaxis(currents, -1, 2)
        for peer in PEERS[name]:
            spikes = np.stack([run(peer, path, sample) for sample in currents])
            spikes = spikes.reshape(*currents.shape[:2], -1)
            print(f"{name}: {peer}: {spikes.mean():.3f} spikes a step")
            arrays[f"{name}/{peer}"] = spikes.astype("uint8")
    np.savez_compressed(FOLDER / "nir.npz", **arrays)


if __name__ == "__main__":
    main()

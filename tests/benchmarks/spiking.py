"""Training steps of spiking networks: this package, snnTorch and spikingjelly.

    python tests/benchmarks/spiking.py dense --torch PYTHON     784-1000-10, 25 steps, batch 128
    python tests/benchmarks/spiking.py conv --torch PYTHON      two convolutions, 25 steps, batch 32
    python tests/benchmarks/spiking.py memory --torch PYTHON    peak memory of dense, 25 and 100 steps

PYTHON is an interpreter with torch, snntorch and spikingjelly; without it only this package runs.

Every network is a process of its own. They take turns, five rounds of five steps, and the smallest
time counts, because other load slows PyTorch more than TensorFlow. All have the same neuron (leak
.95, reset subtract and detached), the same currents in every step and the same loss, cross-entropy
of the spike counts, with Adam.
"""

import argparse
import subprocess
import sys
import time

ROUNDS, STEPS_A_ROUND = 5, 5
OURS = ("ours", "ours, XLA", "ours, loop", "ours, current after the first layer")
PEERS = ("snnTorch", "spikingjelly")
LEAK = 0.95


def batch_of(network):
    return 128 if network == "dense" else 32


def shape_of(network):
    return (784,) if network == "dense" else (28, 28, 1)


# ------------------------------------------------------------------------------------------ this
# package


def keras_step(network, kind, steps):
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_surrogate import layers

    shape, batch = shape_of(network), batch_of(network)
    unroll = False if kind == "ours, loop" else None
    early = kind != "ours, current after the first layer"

    def lif():
        return layers.LIF(LEAK, unroll=unroll)

    # The first layer runs over all steps, or once, and its currents are repeated.
    def first(layer):
        if early:
            return [layers.ConstantCurrent(steps), layers.OverTime(layer)]
        return [layer, layers.ConstantCurrent(steps)]

    if network == "dense":
        hidden = [*first(keras.layers.Dense(1000)), lif()]
    else:
        hidden = [
            *first(keras.layers.Conv2D(12, 5)),
            layers.OverTime(keras.layers.MaxPooling2D()),
            lif(),
            layers.OverTime(keras.layers.Conv2D(64, 5)),
            layers.OverTime(keras.layers.MaxPooling2D()),
            lif(),
            layers.OverTime(keras.layers.Flatten()),
        ]
    last = [layers.OverTime(keras.layers.Dense(10)), lif(), layers.SpikeCount()]
    model = keras.Sequential([keras.Input(shape), *hidden, *last])
    model.compile(
        keras.optimizers.Adam(5e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=kind == "ours, XLA",
    )
    generator = np.random.default_rng(0)
    x = generator.uniform(size=(batch, *shape)).astype("float32")
    y = generator.integers(0, 10, batch)
    data = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    model.make_train_function()

    def step():
        tf.nest.map_structure(lambda value: value.numpy(), model.train_function(data))

    return step


# ------------------------------------------------------------------------------------------ peers


def torch_step(network, kind, steps):
    import torch

    torch.set_num_threads(2)
    layers, forward = {"snnTorch": snntorch_network, "spikingjelly": spikingjelly_network}[kind](
        network, steps
    )
    optimizer = torch.optim.Adam(layers.parameters(), 5e-4)
    shape = (784,) if network == "dense" else (1, 28, 28)
    x = torch.rand(batch_of(network), *shape)
    y = torch.randint(0, 10, (batch_of(network),))

    def step():
        currents = x.unsqueeze(0).repeat(steps, *[1] * x.dim())
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(currents).sum(0), y)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def snntorch_network(network, steps):
    import snntorch
    import torch
    from torch import nn

    def leaky():
        return snntorch.Leaky(LEAK, spike_grad=snntorch.surrogate.fast_sigmoid(5))

    if network == "dense":
        blocks = [nn.Linear(784, 1000), nn.Linear(1000, 10)]
    else:
        blocks = [
            nn.Sequential(nn.Conv2d(1, 12, 5), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(12, 64, 5), nn.MaxPool2d(2)),
            nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)),
        ]
    layers = nn.ModuleList([nn.ModuleList([block, leaky()]) for block in blocks])

    def forward(currents):
        potentials = [neuron.reset_mem() for _, neuron in layers]
        outputs = []
        for signal in currents:
            for index, (block, neuron) in enumerate(layers):
                signal, potentials[index] = neuron(block(signal), potentials[index])
            outputs.append(signal)
        return torch.stack(outputs)

    return layers, forward


def spikingjelly_network(network, steps):
    from spikingjelly.activation_based import functional, layer, neuron, surrogate
    from torch import nn

    def lif():
        return neuron.LIFNode(
            tau=1 / (1 - LEAK),
            decay_input=False,
            v_reset=None,
            detach_reset=True,
            surrogate_function=surrogate.ATan(),
        )

    if network == "dense":
        blocks = [layer.Linear(784, 1000), lif(), layer.Linear(1000, 10), lif()]
    else:
        blocks = [
            *(layer.Conv2d(1, 12, 5), layer.MaxPool2d(2), lif()),
            *(layer.Conv2d(12, 64, 5), layer.MaxPool2d(2), lif()),
            *(layer.Flatten(), layer.Linear(1024, 10), lif()),
        ]
    layers = nn.Sequential(*blocks)
    functional.set_step_mode(layers, "m")

    def forward(currents):
        functional.reset_net(layers)
        return layers(currents)

    return layers, forward


# ------------------------------------------------------------------------------------------
# processes


def memory_of_process(key):
    """VmRSS or VmHWM in MiB; Linux only."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(key))


def worker(network, kind, steps):
    """Answers each line of the input by the times of some steps in ms, and the peak in MiB."""
    step = (keras_step if kind in OURS else torch_step)(network, kind, steps)
    before = memory_of_process("VmRSS")
    began = time.perf_counter()
    step()
    print(time.perf_counter() - began, flush=True)
    step()
    for _ in sys.stdin:
        times = []
        for _ in range(STEPS_A_ROUND):
            began = time.perf_counter()
            step()
            times.append(1000 * (time.perf_counter() - began))
        print(*times, memory_of_process("VmHWM") - before, flush=True)


def measure(network, kinds, steps, python):
    """The smallest and the median time of a step, the first step's, and the peak memory, of each."""
    processes = {}
    for kind in kinds:
        command = [python if kind in PEERS else sys.executable, __file__, network]
        command += ["--worker", kind, "--steps", str(steps)]
        processes[kind] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # One after another, so that the first step is alone too.
        processes[kind].first = float(processes[kind].stdout.readline())
    times = {kind: [] for kind in kinds}
    peaks = {}
    for _ in range(ROUNDS):
        for kind, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            *new, peaks[kind] = map(float, process.stdout.readline().split())
            times[kind] += new
    for process in processes.values():
        process.stdin.close()
        process.wait()
    print(f"{network}, {steps} steps: smallest and median ms, first step in s, peak MiB")
    for kind in kinds:
        ordered = sorted(times[kind])
        median = ordered[len(ordered) // 2]
        first = processes[kind].first
        print(f"  {kind:36} {ordered[0]:7.1f} {median:7.1f} {first:6.1f} {peaks[kind]:7.0f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=("dense", "conv", "memory"))
    parser.add_argument("--torch", help="an interpreter with torch, snntorch and spikingjelly")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.network, arguments.worker, arguments.steps)
        return
    peers = PEERS if arguments.torch else ()
    if arguments.network == "memory":
        for steps in (25, 100):
            measure("dense", ("ours", "ours, loop", *peers), steps, arguments.torch)
    elif arguments.network == "conv":
        # XLA's convolutions on a CPU take too long.
        ours = [kind for kind in OURS if kind != "ours, XLA"]
        measure("conv", (*ours, *peers), arguments.steps, arguments.torch)
    else:
        measure("dense", (*OURS, *peers), arguments.steps, arguments.torch)


if __name__ == "__main__":
    main()

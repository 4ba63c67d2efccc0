"""Neurons as NIR nodes and back.

NIR's equations, and what one step of forward Euler of length dt makes of them:

    IF       dv/dt = R I                          v + dt R I
    I        the same without spikes
    LIF      tau dv/dt = v_leak - v + R I         (1 - dt / tau) v + (dt / tau) R I
    LI       the same without spikes
    CubaLIF  tau_syn di/dt = -i + w_in I          i with the leak 1 - dt / tau_syn, then v by i
             tau_mem dv/dt = v_leak - v + R i

A neuron fires where v > v_threshold, and v becomes v_reset then. So leak = 1 - dt / tau, and a
current of weight 1 needs R = tau / dt, or R = 1 / dt without leak.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_surrogate import functions
from keras_surrogate.layers.neurons import (
    DEFAULT_SURROGATE,
    IFNeuron,
    LIFNeuron,
    LINeuron,
    Neuron,
    SpikingNeuron,
    SynapticLIFNeuron,
)
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from types import ModuleType

    import nir

    from keras_surrogate._types import SurrogateLike

# The relative error of a time constant in float32. A tau below dt by less is dt.
_ROUNDING = 1e-6


class Unfit(Exception):  # noqa: N818, it is not shown to users
    """The reason why a layer has no NIR node, or a node no layer."""


def nir_package() -> ModuleType:
    """The package `nir`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise ImportError("NIR needs its package: python -m pip install nir.") from error
    return nir


# ------------------------------------------------------------------------------------ to NIR


def node_of(neuron: Neuron, numbers: Mapping[str, np.ndarray], dt: float) -> nir.NIRNode:
    """The node of a neuron.

    Args:
        neuron: the neuron.
        numbers: its parameters, in float64, one for each unit, in NIR's order of axes.
        dt: the length of a step in seconds.

    Raises:
        Unfit: NIR has no such neuron.
    """
    nir = nir_package()
    if type(neuron) is LINeuron:
        leak = numbers["leak"]
        if np.all(leak == 1):
            return nir.I(r=np.full(leak.shape, 1 / dt))
        return nir.LI(v_leak=np.zeros_like(leak), **_membrane(leak, dt, "tau"))
    if type(neuron) not in (IFNeuron, LIFNeuron, SynapticLIFNeuron):
        raise Unfit(f"NIR has no {neuron.title()} neuron")
    firing = _firing(neuron, numbers["threshold"])
    rest = np.zeros_like(firing["v_threshold"])
    if type(neuron) is IFNeuron or (type(neuron) is LIFNeuron and np.all(numbers["leak"] == 1)):
        return nir.IF(r=np.full(rest.shape, 1 / dt), **firing)
    if type(neuron) is LIFNeuron:
        return nir.LIF(v_leak=rest, **_membrane(numbers["leak"], dt, "tau"), **firing)
    synapse = _membrane(numbers["synaptic_leak"], dt, "tau_syn")
    # w_in is to the synapse what R is to the membrane.
    synapse["w_in"] = synapse.pop("r")
    membrane = _membrane(numbers["leak"], dt, "tau_mem")
    return nir.CubaLIF(v_leak=rest, **synapse, **membrane, **firing)


def _membrane(leak: np.ndarray, dt: float, name: str) -> dict[str, np.ndarray]:
    """The time constant of a leak, and the resistance at which a current of weight 1 stays 1."""
    if np.any(leak == 1):
        raise Unfit("a leak of 1 has no finite time constant")
    # leak = 1 - dt / tau
    tau = dt / (1 - leak)
    return {name: tau, "r": tau / dt}


def _firing(neuron: SpikingNeuron, threshold: np.ndarray) -> dict[str, Any]:
    """Threshold and reset of a node, with metadata of what NIR does not have."""
    step = neuron.surrogate.forward
    if not isinstance(step, functions.Step) or step.at_zero not in (0, 1):
        raise Unfit(f"its spikes are values of {step.title}, and those of NIR are 0 and 1")
    fires_at_threshold = step.at_zero == 1
    if fires_at_threshold:
        # v >= h is v > the next lower number; potentials are float32.
        threshold = np.nextafter(threshold.astype("float32"), np.float32(0)).astype("float64")
    metadata = {
        "reset": neuron.reset,
        "reset_delay": neuron.reset_delay,
        "detach_reset": neuron.detach_reset,
        "fires_at_threshold": fires_at_threshold,
        "surrogate": json.dumps(neuron.surrogate.get_config()),
    }
    return {
        "v_threshold": threshold,
        "v_reset": np.zeros_like(threshold),
        "metadata": metadata,
    }


def warn_of_resets(neurons: Mapping[str, Neuron]) -> None:
    """Warn about neurons, by the names of their layers, whose reset NIR does not have.

    A reset to zero gives the same spikes with and without delay, so it is in order.
    """
    others = {
        name: f"reset={neuron.reset!r}" + (", reset_delay=True" if neuron.reset_delay else "")
        for name, neuron in neurons.items()
        if isinstance(neuron, SpikingNeuron) and neuron.reset != "zero"
    }
    if not others:
        return
    listed = ", ".join(f"{name} ({what})" for name, what in others.items())
    warnings.warn(
        f"to_nir: NIR's neurons are reset to 0, and these are not: {listed}. Their reset is kept "
        "in the metadata of the node, which from_nir reads and other programs do not: there they "
        'give other spikes. Train with reset="zero" for the same spikes everywhere.',
        UserWarning,
        stacklevel=3,
    )


# ---------------------------------------------------------------------------------- from NIR


class Described(NamedTuple):
    """A neuron that a node describes.

    Attributes:
        neuron: the class.
        options: its arguments that are no numbers of the units.
        numbers: its parameters, one for each unit.
        gain: the factor of the current in the potential, a single number.
    """

    neuron: type[Neuron]
    options: dict[str, Any]
    numbers: dict[str, np.ndarray]
    gain: float


def described(node: nir.NIRNode, dt: float, surrogate: SurrogateLike | None) -> Described:
    """The neuron of an IF, LIF, CubaLIF, LI or I node.

    Raises:
        Unfit: the node does what no neuron of this package does.
    """
    nir = nir_package()
    for name in ("v_leak", "v_reset"):
        if np.any(getattr(node, name, 0)):
            raise Unfit(f"its {name} must be 0")
    numbers = {}
    if isinstance(node, nir.CubaLIF):
        leak, gain = _leak(node.tau_mem, node.r, dt, "tau_mem")
        numbers["synaptic_leak"], into_synapse = _leak(node.tau_syn, node.w_in, dt, "tau_syn")
        gain = gain * into_synapse
    elif isinstance(node, nir.LIF | nir.LI):
        leak, gain = _leak(node.tau, node.r, dt, "tau")
    else:
        leak = np.ones(np.shape(node.r))
        gain = dt * np.asarray(node.r, "float64")
    if not isinstance(node, nir.IF):
        numbers["leak"] = leak
    if isinstance(node, nir.LI | nir.I):
        return Described(LINeuron, {}, numbers, _one_gain(gain))
    if np.any(gain <= 0):
        raise Unfit("its resistance must be positive")
    options, threshold = _restored(node, surrogate)
    # v / gain has a gain of 1, and the threshold v_threshold / gain.
    numbers["threshold"] = np.where(np.isclose(gain, 1, atol=0), threshold, threshold / gain)
    neurons = {nir.IF: IFNeuron, nir.LIF: LIFNeuron, nir.CubaLIF: SynapticLIFNeuron}
    return Described(neurons[type(node)], options, numbers, 1.0)


def _leak(tau: Any, resistance: Any, dt: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The leak and the gain of a time constant."""
    tau = np.asarray(tau, "float64")
    if np.any(tau < dt * (1 - _ROUNDING)):
        raise Unfit(
            f"its {name} of {tau.min():.3g} s is smaller than the step dt = {dt:.3g} s: pass a "
            "smaller dt"
        )
    leak = np.maximum(1 - dt / tau, 0)
    gain = np.asarray(resistance, "float64") * dt / tau
    return leak, gain


def _one_gain(gain: np.ndarray) -> float:
    if not np.allclose(gain, gain.flat[0]):
        raise Unfit("its units have different gains R dt / tau")
    return float(gain.flat[0])


def _restored(
    node: nir.NIRNode, surrogate: SurrogateLike | None
) -> tuple[dict[str, Any], np.ndarray]:
    """The options of a neuron from a node's metadata, and its threshold."""
    metadata = node.metadata
    options = {"reset": metadata.get("reset", "zero")}
    for name, default in (("reset_delay", False), ("detach_reset", True)):
        # A file gives NumPy's bool.
        options[name] = bool(metadata.get(name, default))
    threshold = np.asarray(node.v_threshold, "float64")
    fires_at_threshold = bool(metadata.get("fires_at_threshold", False))
    if fires_at_threshold:
        # The inverse of `_firing`.
        threshold = np.nextafter(threshold.astype("float32"), np.float32(np.inf)).astype("float64")
    if surrogate is not None:
        options["surrogate"] = surrogate
    elif "surrogate" in metadata:
        options["surrogate"] = Surrogate(**json.loads(metadata["surrogate"]))
    else:
        options["surrogate"] = Surrogate(functions.Step(0.0), DEFAULT_SURROGATE.backward)
    return options, threshold

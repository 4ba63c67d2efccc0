"""The rivals of slopes: other weights, normalisation, calibrated scales, a rate for each layer.

A rival is one function under `@rival`. It measures itself on the workbench, beside the slope that
the workbench has at present, and raises a ValueError with the reason where it cannot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import keras
import numpy as np

from keras_surrogate import functions
from keras_surrogate.diagnosis import calibration
from keras_surrogate.diagnosis.balancing import Balance
from keras_surrogate.diagnosis.ranking import Setting
from keras_surrogate.diagnosis.recommended import Kind
from keras_surrogate.diagnosis.slope_places import NOUNS
from keras_surrogate.diagnosis.workbench import Numbers, Workbench, has_normalisation
from keras_surrogate.functions import Function
from keras_surrogate.initializers import CriticalNormal, SustainedActivity
from keras_surrogate.layers import SurrogateWeights
from keras_surrogate.layers.within import children
from keras_surrogate.optimizers import LayerRates
from keras_surrogate.recording.optimizers import innermost
from keras_surrogate.surrogate import Surrogate

# The largest factor of a layer's learning rate or of a scale, and the inverse of the smallest.
_LIMIT = 1e4
_DRAWN = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a rival starts from.

    Attributes:
        bench: the workbench, with the slope beside which the rival stands.
        numbers: its `Numbers`.
        slope: the candidate; None for the true slope.
        setting: the `Setting`.
    """

    bench: Workbench
    numbers: Numbers
    slope: Surrogate | None
    setting: Setting

    @property
    def pair(self) -> Surrogate:
        """The pair of the workbench."""
        return self.slope or Surrogate(self.bench.group.forward)


@dataclasses.dataclass(frozen=True)
class Tried:
    """The result of a rival: its numbers, and what to write to get it."""

    numbers: Numbers
    change: str


_Try = Callable[[Trial], Tried]
# Every rival by its kind, in the order of the table.
RIVALS: dict[Kind, tuple[str, _Try]] = {}


def rival(kind: Kind, name: str) -> Callable[[_Try], _Try]:
    """Add a function to the rivals, with its name in the table."""

    def added(function: _Try) -> _Try:
        RIVALS[kind] = (name, function)
        return function

    return added


@rival("weights", "other weights")
def _weights(trial: Trial) -> Tried:
    """New kernels of the layers before the sites: critical ones, or such that all neurons fire."""
    bench = trial.bench
    if bench.group.kind == "weights":
        raise ValueError("the surrogates are on the weights themselves")
    initializer, change = _initializer(trial)
    drawn = []
    for number, layer in enumerate(_before_sites(bench)):
        config = {**initializer.get_config(), "seed": number}
        values = type(initializer).from_config(config)(layer.kernel.shape)
        drawn.append((layer.kernel, keras.ops.cast(values, layer.kernel.dtype)))
    if not drawn:
        raise ValueError("no Dense layer or convolution comes before an activation")
    with bench.weights(drawn):
        return Tried(bench.measure(), change)


def _initializer(trial: Trial) -> tuple[keras.initializers.Initializer, str]:
    bench = trial.bench
    if bench.group.kind == "neuron":
        layer = bench.sites[0].layer
        steps = _steps(layer)
        found = SustainedActivity(layer.neuron, steps=steps)
        change = f"initializers.SustainedActivity({type(layer.neuron).__name__}(), steps={steps})"
        return found, f"kernel_initializer={change}"
    power = _power(bench.x)
    found = CriticalNormal(trial.pair, input_variance=power)
    change = f"initializers.CriticalNormal({code(trial.pair)}, input_variance={power:.3g})"
    return found, f"kernel_initializer={change}"


def _steps(layer: keras.layers.Layer) -> int:
    """The time steps of a layer of neurons; where they are not known the initializer's default."""
    # A layer of a subclassed model has no symbolic input.
    known = getattr(layer, "input", None)
    if known is None or known.shape[1] is None:
        return SustainedActivity().steps
    return int(known.shape[1])


def _power(x: object) -> float:
    """The mean square of the inputs; 1 for several inputs, and for integers."""
    inputs = [np.asarray(one) for one in keras.tree.flatten(x)]
    if len(inputs) > 1 or not np.issubdtype(inputs[0].dtype, np.floating):
        return 1.0
    return float(np.mean(inputs[0].astype(float) ** 2))


def _before_sites(bench: Workbench) -> Iterator[keras.layers.Layer]:
    """The layers with kernels whose outputs reach a site, in the order of their calls."""
    places = _places(bench)
    final = max(places[id(site.layer)] for site in bench.sites if id(site.layer) in places)
    for layer in _layers(bench.copy):
        is_latent = isinstance(layer, SurrogateWeights)
        if (
            isinstance(layer, _DRAWN)
            and not is_latent
            and places.get(id(layer), final + 1) <= final
        ):
            yield layer


def _layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """All layers within a layer, without those whose weights are latent."""
    for child in children(layer).values():
        yield child
        if not isinstance(child, SurrogateWeights):
            yield from _layers(child)


def _places(bench: Workbench) -> dict[int, int]:
    """The place of each layer of the copy in the order of the calls, by its id."""
    return {key: place for place, key in enumerate(bench.order)}


@rival("normalisation", "normalisation")
def _normalisation(trial: Trial) -> Tried:
    """Batch normalisation before each site, with its first scale and shift, which do not learn."""
    bench = trial.bench
    if bench.group.kind == "weights":
        raise ValueError("the surrogates are on weights")
    if has_normalisation(bench.copy):
        raise ValueError("the model has normalisation already")
    if any(isinstance(site.layer, keras.layers.RNN) for site in bench.sites):
        raise ValueError("a batch is not normalised within the steps of a recurrent layer")
    with bench.normalised():
        numbers = bench.measure()
    noun = NOUNS[bench.group.kind]
    return Tried(numbers, f"keras.layers.BatchNormalization() before each {noun}")


@rival("calibrated", "calibrated scales")
def _calibrated(trial: Trial) -> Tried:
    """Scales of the slopes with which the gradient keeps its size, as in `calibrate`."""
    bench = trial.bench
    if len(bench.sites) < 2:
        raise ValueError("there is one place only, with which no other can be compared")
    settings = calibration.checked_settings("calibrate", 1.1, 10, _LIMIT)
    balance = Balance(bench.copy, bench.sites, settings.limit)
    try:
        calibration.measured(balance, bench.copy, bench.x, bench.objective(), settings)
    finally:
        balance.release()
    numbers = bench.measure()
    bench.put(trial.slope)
    return Tried(numbers, "diagnosis.calibrate(model, x, y), of a model with these surrogates")


@rival("rates", "a rate for each layer")
def _rates(trial: Trial) -> Tried:
    """Learning rates with which the steps of all layers have the size of the last one's."""
    bench = trial.bench
    if trial.setting.rescaled:
        raise ValueError(
            f"the steps of {trial.setting.optimizer_name} do not depend on the gradient's size"
        )
    own = innermost(bench.copy.optimizer)
    if own is not bench.copy.optimizer:
        raise ValueError("the optimizer has loss scaling or layer rates already")
    factors = _factors(trial)
    if not factors:
        raise ValueError("the gradient ends before the first layer")
    optimizer = LayerRates(type(own).from_config(own.get_config()), factors)
    with bench.optimizer(optimizer):
        numbers = bench.measure()
    # Of rate times gradient: 1, as long as the factor is within its limits.
    ratio = numbers.ratio * _limited(1 / numbers.ratio) if numbers.ratio > 0 else 0.0
    names = bench.names
    listed = ", ".join(f"{names[name]!r}: {factor:.3g}" for name, factor in factors.items())
    change = f"optimizers.LayerRates(optimizer, {{{listed}}})"
    return Tried(dataclasses.replace(numbers, ratio=ratio), change)


def _limited(factor: float) -> float:
    return min(max(factor, 1 / _LIMIT), _LIMIT)


def _factors(trial: Trial) -> dict[str, float]:
    """The factor of each layer before a site, by name."""
    bench = trial.bench
    places = _places(bench)
    ends = sorted(places[id(site.layer)] for site in bench.sites if id(site.layer) in places)
    norms = trial.numbers.norms
    if len(ends) != len(norms) or norms[-1] <= 0:
        return {}
    owners = {id(variable): layer for layer in _layers(bench.copy) for variable in layer.variables}
    factors = {}
    for name, variables in bench.groups.items():
        place = places.get(id(owners.get(id(variables[0]))), len(places))
        following = [norm for end, norm in zip(ends, norms, strict=True) if end >= place]
        if following and following[0] > 0:
            factors[name] = _limited(norms[-1] / following[0])
    return factors


def code(pair: Surrogate) -> str:
    """A pair as it is written in Python."""
    if pair == Surrogate(pair.forward):
        # Every argument for a surrogate takes the name of its forward.
        return _code_of(pair.forward)
    parts = [_code_of(pair.forward)]
    if pair.backward != pair.forward:
        parts.append(_code_of(pair.backward))
    if pair.scale != 1:
        parts.append(f"scale={pair.scale:g}")
    return f"Surrogate({', '.join(parts)})"


def _code_of(function: Function) -> str:
    title = function.title
    if title not in functions.names():
        return title
    return repr(title) if function == functions.get(title) else f"functions.{function!r}"

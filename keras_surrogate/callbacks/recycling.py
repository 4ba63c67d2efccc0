"""`RecycleUnits`: dormant units begin anew during training."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import functions, thresholds
from keras_surrogate.callbacks.base import Callback
from keras_surrogate.checks import integer
from keras_surrogate.recording.optimizers import counting, innermost, updates_made

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.units import UnitGroup, Units


class Recycled(NamedTuple):
    """Units that began anew: the optimizer's step, the layer, and the places of the units."""

    step: int
    layer: str
    units: tuple[int, ...]


class RecycleUnits(Callback):
    """Lets dormant units begin anew (ReDo): new incoming weights, no outgoing ones.

        score of a unit = mean(abs(output)) / mean of this over the layer's units
        dormant where score <= threshold

        model.fit(x, y, callbacks=[RecycleUnits(x[:256], every=1000)])

    Every `every` steps of the optimizer, the model is called once on `x` in inference mode. For
    each dormant unit, then

    * its kernel column and its bias are drawn anew by the layer's own initializers, and its gamma,
      beta and moving statistics of a BatchNormalization behind it begin anew;
    * the weights that read it become 0, behind a Flatten all of them, so that the model's outputs
      change only by what the unit contributed;
    * the state that the optimizer keeps for these weights (momenta, accumulated gradients) gets its
      initial values, and their moving averages (`use_ema`) the new weights. State of another shape
      than the weight (Adafactor) is not changed.

    A layer's units are its last axis: the columns of a Dense layer, the channels of a convolution.
    Their outputs are those of the first activation behind the layer, of whatever function. They may
    go through BatchNormalization, activations, dropout, pooling, padding and Flatten, to any number
    of Dense and convolution layers. A layer is refused where its outputs go elsewhere: into a sum
    of a residual network, another normalisation, attention, a recurrent layer, an operation between
    layers, the model's outputs. So are layers whose weights a wrapper replaces, groups, and layers
    behind it that read other layers too.

    Args:
        x: one batch of inputs, as the model takes it; 64 examples or more.
        every: steps between two checks, an integer of at least 1, default 1000.
        threshold: tau, at least 0, default 0.025. With 0 only units that are 0 for all of `x`.
        layers: the names of the layers, a name or several. Default None: all that are not refused,
            with a warning for the others.
        seed: an integer for the new weights; default None, a random one.

    Attributes:
        recycled: a `Recycled` for each layer and check in which units began anew, in this `fit`.
        refused: from the name of each refused layer to the reason.

    At the end of each epoch `logs["recycled_units"]` is the number of units that began anew in it.

    Raises:
        ValueError: an argument out of range; when `fit` begins: a layer in `layers` that the model
            does not have or that is refused, no layer to recycle, or an optimizer whose state is
            not known (`Bop`).

    Source: Sokar et al. 2023, arXiv:2302.12902, algorithm 1.
    """

    recycled: list[Recycled]
    refused: dict[str, str]

    _of_the_fit: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"_units": None, "_groups": None, "_slots": None}
    )

    def __init__(
        self,
        x: Any,
        every: int = 1000,
        threshold: float = thresholds.DORMANT,
        layers: str | Sequence[str] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self._x = x
        self.every = integer(every, "RecycleUnits: every")
        self.threshold = functions.real_number(
            threshold, "RecycleUnits", "threshold", "at least 0", lambda threshold: threshold >= 0
        )
        self._names = [layers] if isinstance(layers, str) else layers
        self._random = np.random.default_rng(seed)
        self.recycled = []
        self.refused = {}
        vars(self).update(self._of_the_fit)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        # Here, because this room is below: importing it loads all of `diagnosis`.
        from keras_surrogate.diagnosis import batches
        from keras_surrogate.diagnosis.units import Units

        x = batches.tensors(self._x)
        if not self.model.built:
            self.model(x, training=False)
        self._inputs = batches.as_taken(self.model, x)
        self._units = Units(self.model, self._inputs)
        self.refused = {**self._units.refused, **self._units.linear}
        self._groups = self._chosen(self._units)
        self._slots = None
        self.recycled = []
        self._step = updates_made(self.model)
        self._count = 0

    def _chosen(self, units: Units) -> dict[str, UnitGroup]:
        if self._names is None:
            if not units.groups:
                raise ValueError(
                    "RecycleUnits: no layer of the model has units that can be recycled"
                    f"{_reasons(self.refused)}."
                )
            if units.refused:
                warnings.warn(
                    f"RecycleUnits leaves out {len(units.refused)} layer(s)"
                    f"{_reasons(units.refused)}.",
                    stacklevel=2,
                )
            return units.groups
        for name in self._names:
            if name in self.refused:
                raise ValueError(f"RecycleUnits: {name} cannot be recycled: {self.refused[name]}.")
            if name not in units.groups:
                raise ValueError(
                    f"RecycleUnits: the model has no layer {name!r} with units and an activation. "
                    f"There are: {', '.join(units.groups) or 'none'}."
                )
        return {name: units.groups[name] for name in self._names}

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._count = 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        before = self._step
        self._step = updates_made(self.model)
        # Several steps may have been made in one execution.
        if before // self.every != self._step // self.every:
            self.recycle()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["recycled_units"] = self._count

    def recycle(self) -> None:
        """Let the units that are dormant now begin anew. It is called by `fit`.

        Raises:
            ValueError: no `fit` has begun.
        """
        if self._units is None or self._groups is None:
            raise ValueError("RecycleUnits: call it within fit: callbacks=[RecycleUnits(x)].")
        sizes = self._units.sizes(self._inputs, self._groups)
        dormant = {
            name: np.flatnonzero(size <= self.threshold * size.mean())
            for name, size in sizes.items()
        }
        found = [(self._groups[name], units) for name, units in dormant.items() if len(units)]
        if found and self._slots is None:
            self._slots = _Slots(counting(self.model), self.model.trainable_variables)
        # All incoming weights first: a weight between two such units must be 0.
        for group, units in found:
            self._draw(group, units)
        for group, units in found:
            for one in group.outgoing:
                places = one.places[units].ravel()
                self._assign(one.kernel, one.axis, places, np.zeros(one.kernel.shape))
            self.recycled.append(Recycled(self._step, group.name, tuple(units.tolist())))
            self._count += len(units)

    def _draw(self, group: UnitGroup, units: np.ndarray) -> None:
        seed = int(self._random.integers(2**31))
        for one in group.incoming:
            fresh = _drawn(one.initializer, seed, one.variable.shape, one.variable.dtype)
            self._assign(one.variable, len(one.variable.shape) - 1, units, np.asarray(fresh))

    def _assign(
        self, variable: keras.Variable, axis: int, places: np.ndarray, values: np.ndarray
    ) -> None:
        """Assign some entries of `values`, and reset the optimizer's state for them."""
        from keras_surrogate.diagnosis.units import assign

        assign(variable, axis, places, np.take(values, places, axis))
        self._slots.reset(variable, axis, places)


def _reasons(refused: Mapping[str, str]) -> str:
    if not refused:
        return ""
    few = list(refused.items())[:3]
    more = ", ..." if len(refused) > len(few) else ""
    return ": " + "; ".join(f"{name}: {reason}" for name, reason in few) + more


def _drawn(initializer: Any, seed: int, shape: Sequence[int], dtype: str) -> tf.Tensor:
    """New values of an initializer, which alone would draw the same ones again."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer(shape, dtype)
    config = initializer.get_config()
    if "seed" in config:
        initializer = type(initializer).from_config({**config, "seed": seed})
    return initializer(shape, dtype)


def _state(
    optimizer: keras.optimizers.Optimizer,
    weights: Sequence[keras.Variable],
    shapes: Sequence[Sequence[int]],
) -> list[keras.Variable]:
    """The variables of a new optimizer of the same kind, for such weights of other shapes."""
    copies = []
    for weight, shape in zip(weights, shapes, strict=True):
        # Muon decides by the paths of the weights how each is trained.
        *scopes, name = weight.path.split("/")
        with contextlib.ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(keras.name_scope(scope))
            copies.append(keras.Variable(tf.zeros(shape, weight.dtype), name=name))
    try:
        clone = type(optimizer).from_config(optimizer.get_config())
        clone.build(copies)
    except Exception as error:
        raise ValueError(
            f"RecycleUnits: the state of {type(optimizer).__name__} is not known, because it "
            f"cannot be created from its configuration ({error})."
        ) from error
    return clone.variables


class _Slots:
    """The variables that an optimizer keeps for each weight, with their initial values.

    Two new optimizers of the same kind say which they are, as their variables are in the same
    order. One is for weights of the same shapes and has the initial values. One is for weights each
    of a shape of its own, such as (2,), (3, 1), (4,): the shape of a variable says to which of them
    it belongs.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, weights: Sequence[keras.Variable]
    ) -> None:
        optimizer = innermost(optimizer)
        ranks = [max(1, len(weight.shape)) for weight in weights]
        marks = [(number, *[1] * (rank - 1)) for number, rank in enumerate(ranks, start=2)]
        new = _state(optimizer, weights, [weight.shape for weight in weights])
        marked = _state(optimizer, weights, marks)
        theirs = optimizer.variables
        shapes = [one.shape for one in theirs]
        if shapes != [one.shape for one in new] or len(marked) != len(new):
            raise ValueError(
                f"RecycleUnits: the state of {type(optimizer).__name__} belongs to other weights "
                "than those that are trainable now. Compile the model after changing `trainable`."
            )
        self._of: dict[int, list[tuple[keras.Variable, np.ndarray | None]]] = {}
        for weight, mark in zip(weights, marks, strict=True):
            for slot, initial, own in zip(theirs, new, marked, strict=True):
                if tuple(own.shape) != mark or slot.shape != weight.shape:
                    continue
                # A moving average of the weights begins with the weights.
                is_average = optimizer.use_ema and slot.path.endswith("_average")
                value = None if is_average else np.array(initial)
                self._of.setdefault(id(weight), []).append((slot, value))

    def reset(self, weight: keras.Variable, axis: int, places: np.ndarray) -> None:
        """Give the state of some entries of a weight its initial values."""
        from keras_surrogate.diagnosis.units import assign

        for slot, initial in self._of.get(id(weight), []):
            values = np.array(weight) if initial is None else initial
            assign(slot, axis, places, np.take(values, places, axis))

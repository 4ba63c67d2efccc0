"""A copy of a model on which slopes and their rivals are measured, one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from keras_surrogate import methods, thresholds, uses
from keras_surrogate.conversion import layer_tree
from keras_surrogate.custom_gradient import Use, inlined_functions, true_gradients
from keras_surrogate.diagnosis import measuring, passes, preparing, references
from keras_surrogate.diagnosis.balancing import Balance
from keras_surrogate.diagnosis.first_order import OneStep, Start
from keras_surrogate.diagnosis.slope_places import Group, copied, sites_in
from keras_surrogate.diagnosis.surrogate_sites import Site
from keras_surrogate.functions.held import Held
from keras_surrogate.recording import names
from keras_surrogate.recording.norms import at_least_float32
from keras_surrogate.surrogate import Surrogate

# The epsilon of keras.layers.BatchNormalization.
_EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class Signal:
    """The signal on its way through the activations of a group, with the true slope.

    Attributes:
        is_lost: True if all examples look alike at the last activation.
        shrinks: True if its mean square falls to less than a hundredth.
        dead: the largest share of units of one activation whose true slope is 0 for every example;
            0 where the true slope is 0 everywhere, and for neurons and weights.
    """

    is_lost: bool = False
    shrinks: bool = False
    dead: float = 0.0


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The measurements of one backward pass and one step.

    Attributes:
        ratio: the gradient's norm at the first site over that at the last one.
        cosine: that of the gradient of the first layer with the reference, or None.
        least_cosine: the smallest one of all layers, or None.
        step: the next step of the optimizer.
        loss: the loss before it.
        norms: the gradient's norm at each site that it reached, in the order of the forward pass.
        uses: the uses of surrogates in the forward pass.
    """

    ratio: float
    cosine: float | None
    least_cosine: float | None
    step: OneStep
    loss: float
    norms: tuple[float, ...]
    uses: Sequence[Use]


class Workbench:
    """A copy of a model whose slopes can be changed and measured.

    Args:
        model: a built and compiled Keras model.
        x, y: inputs and targets, tensors.
        group: the places whose slope changes.
        calls: the ids of the model's layers in the order of their calls.

    Attributes:
        copy: the copy.
        x, y: the same.
        group: the same.
        sites: the places in the copy.
        order: the ids of the copy's layers in the order of their calls.
        reference: the name of the reference of the cosines in the last measurement.
    """

    copy: keras.Model
    sites: list[Site]
    reference: str

    def __init__(
        self, model: keras.Model, x: object, y: object, group: Group, calls: Sequence[int]
    ) -> None:
        self.copy = copied(model, group)
        self.x = x
        self.y = y
        self.group = group
        held = sites_in(model, self.copy, group)
        self.sites = [site for site, _ in held]
        if not self.sites:
            raise ValueError(
                f"recommend: the {group.in_words} are created by the code of a class and cannot be "
                "changed. Let the class take its activation as an argument and return it in "
                "get_config."
            )
        pairs = layer_tree.pairs(model, self.copy)
        counterparts = {id(layer): id(counterpart) for _, layer, counterpart in pairs}
        self.order = [counterparts[key] for key in calls if key in counterparts]
        self._now = [place.now for _, place in held]
        self._names = list(names.layer_variables(model, 1, calls))
        self.reference = ""
        # The loss does not depend on slopes, so that one traced function serves all of them.
        self._loss = passes.loss_function(self.copy, x, y)
        self._true: Mapping[int, tf.Tensor | None] | None = None

    @property
    def groups(self) -> dict[str, list[keras.Variable]]:
        """The trainable variables of each layer, first layer first."""
        return names.layer_variables(self.copy, 1, self.order)

    @property
    def names(self) -> dict[str, str]:
        """The names of the model's layers, by those of the copy's."""
        return dict(zip(self.groups, self._names, strict=True))

    def objective(self) -> Callable[[object], tuple[tf.Tensor, float]]:
        """The compiled loss, as `passes.run` takes it."""
        return preparing.objective(self.copy, self.x, self.y, 0)

    def put(self, slope: Surrogate | None) -> None:
        """Give all sites a slope; None for the true one."""
        for site in self.sites:
            forward = site.plain.forward
            if slope is None:
                site.put(Surrogate(forward))
            else:
                site.put(Surrogate(forward, slope.backward, slope.scale))

    def put_present(self) -> None:
        """Give all sites the slope that the model has."""
        for site, pair in zip(self.sites, self._now, strict=True):
            site.put(pair or Surrogate(site.plain.forward))

    def measure(self) -> Numbers:
        """The numbers of the slopes, weights and optimizer that the copy has now.

        Raises:
            ValueError: no gradient reaches a site, or it is not finite.
        """
        copy = self.copy
        balance = Balance(copy, self.sites, 1.0)
        try:
            with uses.noted() as noted, inlined_functions():
                seen = balance.measure(self.x, self.objective())
        finally:
            balance.release()
        norms = [one.norm or 0.0 for one in balance.order]
        if not norms:
            raise ValueError("no gradient reaches an activation")
        if not all(map(math.isfinite, norms)):
            raise ValueError("the gradient is not finite")
        case = references.Case(copy, self.x, self.y, noted, seen.gradients, self.groups)
        cosines = [products.cosine for products in self._compared(case).values()]
        known = [cosine for cosine in cosines if cosine is not None]
        start = Start(copy, seen.gradients, self._loss)
        return Numbers(
            _ratio(norms),
            cosines[0],
            # Where no gradient arrives, that of the later layers tells nothing.
            None if cosines[0] is None else min(known),
            start.of_optimizer(),
            start.loss,
            tuple(norms),
            noted,
        )

    def _compared(self, case: references.Case) -> Mapping[str, references.Products]:
        reference = references.get(None, case.uses)
        self.reference = reference.name
        if not isinstance(reference, references.TrueSlopes):
            return reference.compare(case)
        # The true gradient is the same for every slope.
        if self._true is None:
            with true_gradients(self.copy):
                self._true = references.gradients_of(case)
        return references.exact(case, self._true)

    def signal(self, numbers: Numbers) -> Signal:
        """The signal in the forward pass of a measurement."""
        if self.group.kind != "activation":
            return Signal()
        inputs = [
            at_least_float32(use.x)
            for use in numbers.uses
            if use.pair is not None and isinstance(use.pair.backward, Held)
        ]
        if not inputs:
            return Signal()
        first = float(tf.reduce_mean(inputs[0] ** 2))
        last = float(tf.reduce_mean(inputs[-1] ** 2))
        _, spread = measuring.effective_rank_and_spread(inputs[-1])
        is_lost = spread is not None and spread < thresholds.COLLAPSED
        return Signal(is_lost, last < 0.01 * first, max(map(self._dead, inputs)))

    def _dead(self, inputs: tf.Tensor) -> float:
        if self.group.is_flat:
            return 0.0
        is_flat = tf.equal(self.group.forward.slope(inputs), 0)
        axes = list(range(len(inputs.shape) - 1))
        return float(tf.reduce_mean(tf.cast(tf.reduce_all(is_flat, axes), tf.float32)))

    @contextlib.contextmanager
    def weights(self, values: Sequence[tuple[keras.Variable, tf.Tensor]]) -> Iterator[None]:
        """A context in which variables of the copy have other values."""
        before = [(variable, tf.identity(variable.value)) for variable, _ in values]
        true = self._true
        self._true = None
        try:
            for variable, value in values:
                variable.assign(value)
            yield
        finally:
            for variable, value in before:
                variable.assign(value)
            self._true = true

    @contextlib.contextmanager
    def optimizer(self, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
        """A context in which the copy has another optimizer."""
        before = self.copy.optimizer
        self.copy.optimizer = optimizer
        try:
            yield
        finally:
            self.copy.optimizer = before

    @contextlib.contextmanager
    def normalised(self) -> Iterator[None]:
        """A context in which the inputs of all sites are normalised over the batch."""
        sites = self.sites
        loss = self._loss
        true = self._true
        self._true = None
        with contextlib.ExitStack() as stack:
            for site in sites:
                if site.slot is None:
                    stack.callback(methods.replace(site.layer, "call", _normalising))
                else:
                    surrogate = site.surrogate
                    stack.callback(layer_tree.set_slot, site.layer, site.slot, surrogate)
                    layer_tree.set_slot(site.layer, site.slot, _Normalised(surrogate))
            self.sites = [_normalised_site(site) for site in sites]
            self._loss = passes.loss_function(self.copy, self.x, self.y)
            try:
                yield
            finally:
                self.sites = sites
                self._loss = loss
                self._true = true


def _ratio(norms: Sequence[float]) -> float:
    first = norms[0]
    last = norms[-1]
    if last == 0:
        return 0.0 if first == 0 else math.inf
    return first / last


def normalised(x: tf.Tensor) -> tf.Tensor:
    """Batch normalisation in training mode, with scale 1 and shift 0; channels are the last axis.

    Source: Ioffe and Szegedy 2015, arXiv:1502.03167.
    """
    axes = list(range(len(x.shape) - 1))
    wide = at_least_float32(x)
    mean, variance = tf.nn.moments(wide, axes)
    return tf.cast((wide - mean) / tf.sqrt(variance + _EPSILON), x.dtype)


class _Normalised:
    """A surrogate of normalised inputs, for an attribute that holds an activation."""

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate = surrogate

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.surrogate(normalised(x))


def _normalising(layer: keras.layers.Layer, call: Callable[..., object]) -> Callable[..., object]:
    """The `call` of a layer on normalised inputs."""

    @functools.wraps(call)
    def normalising(inputs, *args, **kwargs):
        return call(normalised(inputs), *args, **kwargs)

    return normalising


@dataclasses.dataclass(frozen=True)
class _NormalisedSite(Site):
    """A site whose attribute holds a `_Normalised`."""

    @property
    def surrogate(self) -> Surrogate:
        return getattr(self.layer, self.slot).surrogate

    def put(self, surrogate: Surrogate) -> None:
        getattr(self.layer, self.slot).surrogate = surrogate


def _normalised_site(site: Site) -> Site:
    if site.slot is None:
        return site
    return _NormalisedSite(site.path, site.layer, site.kind, site.slot)


def has_normalisation(model: keras.Model) -> bool:
    """True if a layer of a model normalises."""
    kinds = (
        keras.layers.BatchNormalization,
        keras.layers.LayerNormalization,
        keras.layers.GroupNormalization,
        keras.layers.UnitNormalization,
    )
    return any(isinstance(place.layer, kinds) for place in layer_tree.walk(model))

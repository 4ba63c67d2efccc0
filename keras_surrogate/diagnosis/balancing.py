"""The factors of a model's slopes with which the gradient keeps its size, found on one batch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_surrogate import methods
from keras_surrogate.custom_gradient import with_gradient
from keras_surrogate.diagnosis import passes, widths
from keras_surrogate.diagnosis.surrogate_sites import Site
from keras_surrogate.functions.held import Gain
from keras_surrogate.recording.norms import norms

# The largest step of log(factor) for a site that is called several times.
_LONGEST_STEP = math.log(100.0)
# A difference of log(factor) below this tells nothing about the exponent.
_LEAST_STEP = 1e-3


class NoGradientError(ValueError):
    """No gradient to compare with: behind the last surrogate it is 0 or not finite."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was measured and changed at one site.

    Attributes:
        path, kind: those of the site.
        calls: the number of times that a gradient passed it; 0 if none did.
        before: the norm of the gradient that left it before; None where none did.
        after: the same with the factors.
        factor: by what its slope was multiplied.
        scale: the scale of its surrogate now.
        width: by what its slope was made wider.
        share: the share of inputs at which its slope is now at least 1 % of its largest value; None
            where it was not asked for.
    """

    path: str
    kind: Literal["activation", "weights", "neuron"]
    calls: int
    before: float | None
    after: float | None
    factor: float
    scale: float
    width: float = 1.0
    share: float | None = None


class Balanced:
    """A site with its gain, and what the passes have shown of it.

    Attributes:
        site: the `Site`.
        gain: the `Gain` that the site's surrogate has as long as it is held.
        norm: the norm of the gradient that left the site in the last pass: of its inputs, or of the
            weights; None where no gradient came by.
        calls: the number of times that it did.
    """

    site: Site
    gain: Gain
    norm: float | None
    calls: int

    def __init__(self, site: Site) -> None:
        self.site = site
        self.gain = Gain(site.plain)
        self.norm = None
        self.calls = 0
        self._width = 1.0
        self._share: float | None = None
        # The logarithms of factor and norm in the pass before, of a site that is called often.
        self._last: tuple[float, float] | None = None

    def restart(self) -> None:
        """A factor of 1, and nothing remembered of other weights."""
        self.gain.variable.assign(1.0)
        self._last = None

    @property
    def factor(self) -> float:
        return float(self.gain.variable.numpy())

    def error(self, target: float) -> float | None:
        """log(norm / target); None without a norm that is positive and finite."""
        if self.norm is None or not 0 < self.norm < math.inf:
            return None
        return math.log(self.norm / target)

    def set(self, factor: float, limit: float) -> None:
        """Assign a factor, within 1 / limit and limit."""
        self.gain.variable.assign(min(max(factor, 1 / limit), limit))

    def outcome(self, before: float | None) -> Outcome:
        """The result, with the norm before."""
        scale = self.gain.original.scale * self.factor
        site = self.site
        return Outcome(
            site.path,
            site.kind,
            self.calls,
            before,
            self.norm,
            self.factor,
            scale,
            self._width,
            self._share,
        )

    def widen(self, least: float) -> None:
        """Make the slope wider where it is negligible at too many of the noted inputs."""
        inputs = widths.sampled(self.gain.inputs or [])
        self.gain.inputs = None
        if not len(inputs):
            return
        original = self.gain.original
        wider, self._width = widths.widened(original.backward, inputs, least)
        self._share = widths.share(wider, inputs)
        self.gain = Gain(dataclasses.replace(original, backward=wider))
        self.site.put(self.gain.held())

    @property
    def is_exact(self) -> bool:
        """True if its factor can be set while the gradient passes: it is called once, and seen."""
        return self.calls == 1 and self.site.kind != "neuron"

    def correct(self, target: float, limit: float) -> None:
        """Change the factor by what the passes so far suggest."""
        error = self.error(target)
        if error is None:
            return
        # The norm is proportional to factor ** exponent. In a recurrent layer the gradient passes
        # through the slope once a step, so that the exponent is at most the number of calls.
        exponent = 1.0 if self.site.kind != "activation" else float(max(self.calls, 1))
        now = (math.log(self.factor), error + math.log(target))
        if self._last is not None and abs(now[0] - self._last[0]) > _LEAST_STEP:
            slope = (now[1] - self._last[1]) / (now[0] - self._last[0])
            exponent = min(max(slope, 0.5), max(exponent, 1.0) * 2)
        self._last = now
        step = min(max(-error / exponent, -_LONGEST_STEP), _LONGEST_STEP)
        self.set(math.exp(now[0] + step), limit)


class Balance:
    """All sites of a model, held, and the passes that set their factors.

    Args:
        model: a built Keras model.
        sites: its `Site` objects.
        limit: the largest factor, and the inverse of the smallest.

    Attributes:
        balanced: a `Balanced` for each site.
        order: those that a gradient reached, in the order of the forward pass.
    """

    balanced: list[Balanced]
    order: list[Balanced]

    def __init__(self, model: keras.Model, sites: Sequence[Site], limit: float) -> None:
        self._model = model
        self._limit = limit
        self.balanced = [Balanced(site) for site in sites]
        self.order = []
        for one in self.balanced:
            one.site.put(one.gain.held())

    def release(self) -> None:
        """Put plain surrogates in place, with the factors in their scales."""
        for one in self.balanced:
            one.site.put(one.gain.released())

    def run(
        self,
        x: object,
        objective: Callable[[object], tuple[tf.Tensor, float]],
        tolerance: float,
        iterations: int,
        share: float | None = None,
    ) -> tuple[Outcome, ...]:
        """Measure the norms, set the factors, and measure again.

        Args:
            x: one batch, as tensors.
            objective: as in `passes.run`.
            tolerance: the factor by which norms may differ from that of the last site.
            iterations: the largest number of passes that set factors.
            share: the share of inputs at which each slope shall not be negligible; default None:
                the widths stay.

        Raises:
            NoGradientError: the last gradient is 0 or not finite, or there is none.
        """
        for one in self.balanced:
            one.gain.inputs = None if share is None else []
        self.measure(x, objective)
        before = {id(one): one.norm for one in self.balanced}
        if share is not None:
            for one in self.balanced:
                one.widen(share)
            self.measure(x, objective)
        targets = self._targets()
        for number in range(iterations):
            self.measure(x, objective, targets)
            errors = [one.error(targets[family(one)]) for one in self.order]
            if all(abs(error) <= math.log(tolerance) for error in errors if error is not None):
                break
            repeated = [one for one in self.order if not one.is_exact]
            for one in repeated:
                one.correct(targets[family(one)], self._limit)
            # The factors of the last iteration have not been measured yet.
            if repeated and number == iterations - 1:
                self.measure(x, objective)
        left = [one for one in self.balanced if one not in self.order]
        return tuple(one.outcome(before[id(one)]) for one in [*self.order, *left])

    def _targets(self) -> dict[str, float]:
        """The norm of the last site of each family."""
        targets = {}
        for one in self.order:
            if one.norm is None or not 0 < one.norm < math.inf:
                continue
            targets[family(one)] = one.norm
        last = self.order[-1] if self.order else None
        if last is None:
            raise NoGradientError("diagnose: no gradient reaches a surrogate of the model.")
        if last.error(1.0) is None:
            raise NoGradientError(
                f"diagnose: the gradient behind the last surrogate, {last.site.path}, is "
                f"{last.norm:g}, so that no other one can be compared with it. Give it a wider "
                "slope, or other inputs."
            )
        return targets

    def measure(
        self,
        x: object,
        objective: Callable[[object], tuple[tf.Tensor, float]],
        targets: dict[str, float] | None = None,
    ) -> passes.Pass:
        """One forward and backward pass, which notes the norms of all sites.

        Args:
            x: one batch, as tensors.
            objective: as in `passes.run`.
            targets: the norms to reach, by `family`: the factors of sites that are called once are
                set in this pass, each before the gradient goes on to the sites before it. Default
                None: all factors stay.

        Returns:
            The `Pass`, without calls of layers.
        """
        squares: dict[int, list[tf.Tensor]] = {}
        scales = []

        def noted_objective(outputs: object) -> tuple[tf.Tensor, float]:
            value, scale = objective(outputs)
            scales.append(scale)
            return value, scale

        def see(one: Balanced, gradient: tf.Tensor) -> None:
            squares.setdefault(id(one), []).append(norms([gradient])[0] ** 2)

        for one in self.balanced:
            target = None
            if targets is not None and one.is_exact:
                target = targets[family(one)]
            one.gain.listener = functools.partial(self._passed, see, one, target, scales)
        neurons = {id(one.site.layer): one for one in self.balanced if one.site.kind == "neuron"}
        try:
            with passes.unchanged(self._model), _inputs_seen(neurons, see):
                seen = passes.run(self._model, x, noted_objective, ())
        finally:
            for one in self.balanced:
                one.gain.listener = None
        for one in self.balanced:
            noted = squares.get(id(one), [])
            one.calls = len(noted)
            one.norm = None
            if noted:
                one.norm = float(tf.sqrt(tf.add_n(noted))) / scales[0]
        # The backward pass meets the last site first.
        by_id = {id(one): one for one in self.balanced}
        self.order = [by_id[key] for key in reversed(squares)]
        return seen

    def _passed(
        self,
        see: Callable[[Balanced, tf.Tensor], None],
        one: Balanced,
        target: float | None,
        scales: Sequence[float],
        gradient: tf.Tensor,
    ) -> tf.Tensor:
        """The gradient that the backward pass goes on with, behind a site."""
        if target is not None:
            norm = float(norms([gradient])[0]) / scales[0]
            if 0 < norm < math.inf:
                one.set(target / norm, self._limit)
        after = one.gain.times(gradient)
        if one.site.kind != "neuron":
            see(one, after)
        return after


def family(one: Balanced) -> str:
    """The sites with one target: those that the signal passes, or those of weights."""
    return "weights" if one.site.kind == "weights" else "signal"


@contextlib.contextmanager
def _inputs_seen(
    neurons: dict[int, Balanced], see: Callable[[Balanced, tf.Tensor], None]
) -> Iterator[None]:
    """A context in which the gradients of the inputs of layers of neurons are noted."""

    def watching(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def watched_call(inputs, *args, **kwargs):
            def evaluate(x):
                def gradient(upstream):
                    if tf.executing_eagerly():
                        see(neurons[id(layer)], upstream)
                    return upstream

                return tf.identity(x), gradient

            return call(with_gradient(inputs, evaluate, tf.identity), *args, **kwargs)

        return watched_call

    layers = [one.site.layer for one in neurons.values()]
    with methods.replaced(layers, "call", watching):
        yield

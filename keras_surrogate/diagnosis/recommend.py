"""`recommend`: the slope for a model, measured on one batch, beside other remedies."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.custom_gradient import inlined_functions
from keras_surrogate.diagnosis import advice, batches, passes, preparing, slope_places
from keras_surrogate.diagnosis.candidates import named_candidates, slope_name
from keras_surrogate.diagnosis.ranking import Setting, ranked, verdict
from keras_surrogate.diagnosis.recommended import Kind, Option, Recommended
from keras_surrogate.diagnosis.rivals import RIVALS, Trial, code
from keras_surrogate.diagnosis.workbench import Numbers, Workbench
from keras_surrogate.recording import names
from keras_surrogate.recording.optimizers import innermost
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.theory.verdicts import Effect

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike

# What a rival may raise where it does not fit a model.
_ERRORS = (TypeError, ValueError, tf.errors.OpError)


def recommend(
    model: keras.Model,
    x: object,
    y: object = None,
    candidates: Iterable[SurrogateLike] | Mapping[str, SurrogateLike] | None = None,
    layers: slope_places.Chosen = None,
) -> Recommended:
    """Which slope to use in a model, and whether to use one at all, measured on one batch.

        recommend(model, x_train[:256], y_train[:256]).print()

    The values of all activations stay; each candidate is the slope of all of them in turn. Measured
    are three numbers, each with the compiled loss in training mode:

        ratio   norm of the gradient at the first activation / at the last one
        cosine  of the first layer's gradient, and the least of all layers, with the reference of
                `alignment`: the true gradient, or where the true slope is 0 that of the smooth
                network, which is another one for each slope
        kept    (loss(w) - loss(w + d)) / -(g . d) for the next step d of the compiled optimizer and
                the gradient g, as in `first_order`

    The same table holds the true slope and the rivals of slopes: other initial weights
    (`initializers.CriticalNormal`; for spiking neurons `SustainedActivity`), batch normalisation
    before each activation, scales from `calibrate`, and a learning rate for each layer
    (`optimizers.LayerRates`). They stand beside the true slope; where that is 0 everywhere, beside
    the best candidate. Weights are drawn anew with fixed seeds. Normalisation has its first scale
    and shift, which take no part in the step. What does not fit the model is in the table with the
    reason.

    Options are ranked by their effect, then by their score; where the true slope is 0, "helps" and
    "none" count alike. The effect of slopes, scales and rates is that of the rule of
    `theory.effect`, with measured numbers for predicted ones; see `examples/evidence` for how often
    it is right. Weights and normalisation help where they repair a gradient that vanishes or
    explodes, or a signal that is lost (`keras_surrogate.thresholds`). The score is the least
    cosine; under plain SGD divided by the decades that the ratio is off, of which the first is
    free.

    All of it is the start of a training and one batch. It does not see what grows later, and a
    slope that is larger by a constant is a larger learning rate: tune that for each slope.

    Args:
        model: a Keras model of any kind, compiled with a loss, built or not, with activations,
            surrogates on activations or weights, or spiking neurons. This call builds it. It is
            copied; weights, seeds, metrics and the optimizer stay unchanged.
        x, y: one batch with its targets, or a source of batches (x, y), as in `diagnose`.
        candidates: slopes: names of functions or presets, functions, or `Surrogate`s, of which
            backward and scale are used; a list, or a dictionary from names for the table. Default
            None: those of `default_candidates`.
        layers: the layers whose slopes may change, as in `conversion.swap`. Default None: all. Of
            several forwards, those without a true slope come first, then the commonest. The others
            stay as they are, and so does an activation at the model's output.

    Returns:
        A `Recommended`: `print()` shows the table, `verdict` says what to do.

    Raises:
        TypeError: `model` is not a Keras model; `x` is neither arrays nor a source of batches.
        ValueError: the model is not compiled with a loss, there are no targets, or the batch does
            not fit or is empty; an unknown candidate; no hidden activation; a model that cannot be
            copied; a loss that does not depend on the activations.
    """
    x, y = preparing.batch_with_targets("recommend", model, x, y)
    with _same_random_numbers(), preparing.speaking_as("recommend"):
        calls, ending = _own_pass(model, x, y)
        group = slope_places.group(model, layers, ending)
        pairs = named_candidates(candidates, group.forward)
        try:
            bench = Workbench(model, x, y, group, calls)
        except ValueError as error:
            text = str(error).removeprefix("recommend: ")
            raise ValueError(f"recommend: {text}") from error
        return _Comparison(model, bench, pairs).result()


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    """A context that leaves Python's and NumPy's random numbers unchanged: copies draw some."""
    state = random.getstate()
    numpy_state = np.random.get_state()
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def _own_pass(model: keras.Model, x: object, y: object) -> tuple[list[int], set[int]]:
    """The ids of the layers in the order of their calls, and of those that give an output."""
    layers = names.layers_within(model, names.EVERY_DEPTH)
    objective = preparing.objective(model, x, y, 0)
    with passes.unchanged(model), inlined_functions():
        seen = preparing.reporting(model, x, lambda: passes.run(model, x, objective, layers))
    final = set(map(id, seen.outputs))
    ending = {
        key
        for key, calls in seen.calls.items()
        for _, outputs in calls
        if any(id(output) in final for output in outputs)
    }
    return list(seen.calls), ending


class _Comparison:
    """The measurements of one call of `recommend`.

    Args:
        model: the user's model.
        bench: the workbench with its copy.
        pairs: the candidates by name.
    """

    def __init__(
        self, model: keras.Model, bench: Workbench, pairs: Mapping[str, Surrogate]
    ) -> None:
        self._model = model
        self._bench = bench
        self._pairs = pairs
        # With the true slope.
        bench.put(None)
        self._start = _measured(bench)
        optimizer = innermost(model.optimizer)
        self._setting = Setting(
            bench.group.forward.title,
            bench.group.is_flat,
            type(optimizer).__name__,
            advice.rescales_gradients(optimizer) is True,
            float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            bench.signal(self._start),
            self._start.ratio,
            bench.reference,
        )
        self._measured: dict[str, Numbers] = {}

    def result(self) -> Recommended:
        bench = self._bench
        options = [self._true(), *self._slopes()]
        trial = self._trial(options)
        if trial is None:
            options += [
                Option(name, kind, reason="no slope could be measured")
                for kind, (name, _) in RIVALS.items()
            ]
        else:
            bench.put(trial.slope)
            options += [self._rival(kind, trial) for kind in RIVALS]
        options = ranked(options, self._setting)
        setting = self._setting
        return Recommended(
            self._model.name,
            batches.size(bench.x),
            bench.group.in_words,
            bench.group.others,
            f"{setting.optimizer_name}({setting.rate:g})",
            setting.reference,
            setting.signal.dead,
            tuple(options),
            verdict(options, setting),
        )

    def _true(self) -> Option:
        group = self._bench.group
        is_now = group.present == [Surrogate(group.forward)]
        return self._option("true slope", "true", self._start, now=is_now)

    def _slopes(self) -> Iterator[Option]:
        """The candidates; and the slopes that the model has, if they are not among them."""
        group = self._bench.group
        true = Surrogate(group.forward)
        present = [pair for pair in group.present if pair != true]
        for name, pair in self._pairs.items():
            is_now = group.present == [Surrogate(group.forward, pair.backward, pair.scale)]
            if is_now:
                present = []
            yield self._slope(name, pair, is_now)
        if not present:
            return
        pair = group.present[0] if len(group.present) == 1 else None
        self._bench.put_present()
        name = "slopes of the model" if pair is None else slope_name(pair)
        yield self._attempt(name, "present", pair, now=True)

    def _slope(self, name: str, pair: Surrogate, is_now: bool) -> Option:
        self._bench.put(pair)
        return self._attempt(name, "slope", pair, is_now)

    def _attempt(self, name: str, kind: Kind, pair: Surrogate | None, now: bool) -> Option:
        try:
            numbers = self._bench.measure()
        except _ERRORS as error:
            return Option(name, kind, pair, now=now, reason=_reason(error))
        self._measured[name] = numbers
        effect = self._setting.effect(numbers)
        return self._option(name, kind, numbers, effect, pair, self._change(pair), now)

    def _change(self, pair: Surrogate | None) -> str:
        if pair is None:
            return ""
        written = code(pair)
        group = self._bench.group
        if group.kind == "weights":
            return f"layers.SurrogateWeights(layer, {written})"
        if group.kind == "neuron":
            return f"surrogate={written}"
        return f"conversion.swap(model, {{{group.forward.title!r}: {written}}})"

    def _option(
        self,
        name: str,
        kind: Kind,
        numbers: Numbers,
        effect: Effect | None = None,
        pair: Surrogate | None = None,
        change: str = "",
        now: bool = False,
    ) -> Option:
        size = abs(numbers.loss)
        return Option(
            name,
            kind,
            pair,
            numbers.ratio,
            numbers.cosine,
            numbers.least_cosine,
            numbers.step.kept,
            numbers.step.decrease / size if size > 0 else None,
            effect,
            self._setting.score(numbers),
            change,
            now,
        )

    def _trial(self, options: list[Option]) -> Trial | None:
        """The start of the rivals: the true slope, or the best candidate where that is 0."""
        setting = self._setting
        if not setting.is_flat:
            return Trial(self._bench, self._start, None, setting)
        for one in ranked(options, setting):
            if one.surrogate is not None and one.reason is None:
                return Trial(self._bench, self._measured[one.name], one.surrogate, setting)
        return None

    def _rival(self, kind: Kind, trial: Trial) -> Option:
        name, attempt = RIVALS[kind]
        try:
            tried = attempt(trial)
        except _ERRORS as error:
            return Option(name, kind, reason=_reason(error))
        numbers = tried.numbers
        if kind in ("weights", "normalisation"):
            is_lost = self._bench.signal(numbers).is_lost
            effect = "none"
            if not is_lost:
                effect = self._setting.repair(numbers, trial.numbers)
        else:
            effect = self._setting.effect(numbers)
        return self._option(name, kind, numbers, effect, change=tried.change)


def _measured(bench: Workbench) -> Numbers:
    try:
        return bench.measure()
    except ValueError as error:
        raise ValueError(
            f"recommend: {_reason(error)}, so that no slope of {bench.group.in_words} can be "
            "measured. See diagnosis.diagnose(model, x, y)."
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error, without the name of a function and the last full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("diagnose: ").rstrip(".")

"""One case: built and compiled once, trained from several seeds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import __version__
from keras_surrogate.comparison import networks
from keras_surrogate.comparison.families import FAMILIES
from keras_surrogate.comparison.outlook import Outlook
from keras_surrogate.comparison.probe import Probe, compiled
from keras_surrogate.comparison.results import Run
from keras_surrogate.diagnosis import preparing
from keras_surrogate.diagnosis.balancing import Balance, NoGradientError
from keras_surrogate.diagnosis.calibration import Settings, measured
from keras_surrogate.diagnosis.surrogate_sites import sites

if TYPE_CHECKING:
    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.datasets import Dataset

# Steps between two checks of the loss; Ctrl-C and the progress bar wait for them.
_CHUNK = 50
# Training images of the probe's gradients, test images for dead units, and images of one batch of
# the evaluation.
_PROBED = 256
_WATCHED = 1000
_EVALUATED = 500
# Those of `diagnosis.calibrate`.
_CALIBRATION = Settings()


class Trainer:
    """A case, ready for trainings from any seeds.

    Args:
        case: a `Case`.
        data: the `datasets.Dataset` of that name.

    Attributes:
        prediction: the `theory.Prediction` of the case, or None.
        effect: the effect by `theory.effect`, or None.
        network: the built `BuiltNetwork`.

    Raises:
        ValueError: the case does not fit the data, or cannot be balanced.
    """

    def __init__(self, case: Case, data: Dataset) -> None:
        self.case = case
        outlook = Outlook.of(case, data)
        self.prediction = outlook.prediction
        self.effect = outlook.effect
        self.network = networks.build(
            case,
            shape=data.x_train.shape[1:],
            classes=data.classes,
            surrogate=outlook.surrogate,
            initializer=outlook.weights.initializer,
        )
        kept, held = split(case, data)
        self._x = tf.constant(data.x_train[kept])
        self._y = tf.constant(data.y_train[kept])
        self._validation = (data.x_train[held], data.y_train[held])
        self._test = (data.x_test, data.y_test)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        # The scales of calibrated slopes are variables, before anything is traced.
        self._balance = None
        if case.calibrated:
            self._balance = Balance(
                self.network.model, sites(self.network.model), _CALIBRATION.limit
            )
        self._optimizer = networks.build_optimizer(case, self.network)
        self.network.model.compile(self._optimizer, self._loss)
        self._blends = []
        if case.annealing:
            self._blends = [layer.hold_blend() for layer in self.network.activations]
        self._state = networks.State(self.network.model, self._optimizer)
        self._probe = Probe(self.network, self._loss)
        specs = [
            tf.TensorSpec([None, case.batch_size], tf.int32),
            tf.TensorSpec.from_tensor(self._x),
            tf.TensorSpec.from_tensor(self._y),
        ]
        self._train = compiled(self._steps, specs)
        self._count = compiled(self._scores)

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps of an epoch."""
        return len(self._x) // self.case.batch_size

    def start(self, seed: int) -> None:
        """Reset all weights and the optimizer to the initial state of that seed's training."""
        self._state.reset(seed)
        if self._balance is not None:
            self._calibrate()

    def _calibrate(self) -> None:
        """Set the scales by the first images, as `diagnosis.calibrate` does.

        Where no gradient reaches the last surrogate, all scales are 1.
        """
        model = self.network.model
        for one in self._balance.balanced:
            one.restart()
        x = self._x[:_PROBED]
        objective = preparing.objective(model, x, self._y[:_PROBED], seed=0)
        with contextlib.suppress(NoGradientError):
            measured(self._balance, model, x, objective, _CALIBRATION)

    def run(self, seed: int, progress: Callable[[int], object] = lambda steps: None) -> Run:
        """Train from a seed; `progress` is called with the number of steps since its last call."""
        started = time.perf_counter()
        x = self._x[:_PROBED]
        y = self._y[:_PROBED]
        self.start(seed)
        before = self._probe.backward(x, y)
        dead = self._dead_units()
        # The probe moves the averages of batch normalisation.
        self._state.reset(seed)
        history, diverged = self._epochs(seed, progress)
        accuracy, loss = self._evaluate(*self._test)
        after = self._probe.backward(x, y)
        prediction = self.prediction
        return Run(
            case=self.case,
            seed=seed,
            diverged=bool(diverged or not np.isfinite(loss)),
            accuracy=accuracy,
            loss=loss,
            validation_accuracy=history.get("validation_accuracy", [None])[-1],
            dead_units=history["dead_units"][-1],
            initial_dead_units=dead,
            gradient_ratio=before.gradient_ratio,
            cosine=before.cosine,
            kernel_cosine=before.kernel_cosine,
            predicted_gradient_ratio=None if prediction is None else prediction.gradient_ratio,
            predicted_cosine=None if prediction is None else prediction.first_cosine,
            predicted_effect=self.effect,
            final_gradient_ratio=after.gradient_ratio,
            final_cosine=after.cosine,
            history=history,
            seconds=time.perf_counter() - started,
            versions={
                "keras_surrogate": __version__,
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
            },
        )

    def _epochs(
        self, seed: int, progress: Callable[[int], object]
    ) -> tuple[dict[str, list[float]], bool]:
        """The history, and True if the loss became NaN or infinite."""
        history = {"loss": [], "accuracy": [], "dead_units": []}
        if len(self._validation[0]):
            history["validation_accuracy"] = []
        for epoch in range(self.case.epochs):
            places = networks.batches(seed, epoch, len(self._x), self.case.batch_size)
            loss, accuracy = self._epoch(places, progress)
            history["loss"].append(loss)
            history["accuracy"].append(accuracy)
            history["dead_units"].append(self._dead_units())
            if len(self._validation[0]):
                validation_accuracy, _ = self._evaluate(*self._validation)
                history["validation_accuracy"].append(validation_accuracy)
            if not np.isfinite(loss):
                return history, True
        return history, False

    def _dead_units(self) -> float:
        return self._probe.dead_units(self._test[0][:_WATCHED])

    def _epoch(self, places: np.ndarray, progress: Callable[[int], object]) -> tuple[float, float]:
        """Mean loss and accuracy over the steps; the loss is NaN or infinite if one step's is."""
        totals = np.zeros(2)
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            totals += np.array(self._train(chunk, self._x, self._y))
            progress(len(chunk))
            if not np.isfinite(totals[0]):
                break
        loss, accuracy = totals / len(places)
        return float(loss), float(accuracy)

    def _steps(self, places: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step for each row of places; returns the sums of losses and accuracies, in float64.

        The data are arguments, because TensorFlow never frees the graph of a custom gradient or the
        tensors that it captures.
        """
        loss = tf.zeros([], tf.float64)
        accuracy = tf.zeros([], tf.float64)
        for batch in places:
            step_loss, step_accuracy = self._step(tf.gather(x, batch), tf.gather(y, batch))
            loss += tf.cast(step_loss, tf.float64)
            accuracy += tf.cast(step_accuracy, tf.float64)
        return loss, accuracy

    def _anneal(self) -> None:
        """The work of `callbacks.SurrogateAnnealing` before a step, within the graph."""
        if not self._blends:
            return
        steps = self.case.annealing * self.case.epochs * self.steps_per_epoch
        made = tf.cast(tf.convert_to_tensor(self._optimizer.iterations), tf.float64)
        for blend in self._blends:
            blend.assign(tf.cast(tf.nn.relu(1 - made / steps), tf.float32))

    def _step(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of training; returns loss and accuracy before it."""
        model = self.network.model
        self._anneal()
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = self._loss(y, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        self._optimizer.apply(gradients, model.trainable_variables)
        return loss, tf.reduce_mean(_hits(y, logits))

    def _evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        """Accuracy and loss on images."""
        sums = []
        for start in range(0, len(x), _EVALUATED):
            part = slice(start, start + _EVALUATED)
            sums.append(np.array(self._count(x[part], y[part])))
        right, loss = np.sum(sums, axis=0) / len(x)
        return float(right), float(loss)

    def _scores(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The number of right guesses, and the sum of the losses."""
        logits = self.network.model(x, training=False)
        count = tf.cast(len(x), tf.float32)
        return tf.reduce_sum(_hits(y, logits)), count * self._loss(y, logits)


def _hits(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 for each right guess; NaN guesses the class 0."""
    known = tf.where(tf.math.is_nan(logits), tf.zeros_like(logits), logits)
    return tf.cast(tf.argmax(known, axis=1) == y, tf.float32)


def check(case: Case, data: Dataset) -> None:
    """Raise the ValueError that `Trainer` would, without predicting and building, which is slow."""
    outlook = Outlook.of(case, data)
    # Both raise a ValueError where the case has none.
    _ = outlook.surrogate
    _ = outlook.weights
    FAMILIES[case.network].check(case, data.x_train.shape[1:])
    split(case, data)


def split(case: Case, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The places of the images to train with, and of those held out, drawn once for all seeds."""
    count = min(case.images or len(data.x_train), len(data.x_train))
    order = np.random.default_rng(0).permutation(len(data.x_train))[:count]
    held, kept = np.split(order, [round(case.validation * count)])
    if len(kept) < case.batch_size or (case.validation and not len(held)):
        raise ValueError(
            f"{case.data} with images={count} and validation={case.validation:g} leaves "
            f"{len(kept)} images to train and {len(held)} to validate. These are too few with "
            f"batch_size={case.batch_size}; give more images, a smaller batch_size or another "
            "validation."
        )
    return kept, held

"""One case: built and compiled once, trained from as many seeds as asked for."""

import time

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import __version__
from keras_surrogate.comparison import networks, outlook
from keras_surrogate.comparison.probe import Probe, compiled
from keras_surrogate.comparison.results import Run

# Steps between two looks at the loss, and so at most until Ctrl-C is heard and the progress bar
# moves.
_CHUNK = 50
_PROBED, _WATCHED, _EVALUATED = 256, 1000, 500


class Trainer:
    """Trains a case from one seed after the other.

    Args:
        case: a `Case`.
        data: the `datasets.Dataset` of that name.

    Raises:
        ValueError: the case does not fit the data, or cannot be balanced.
    """

    def __init__(self, case, data):
        self.case = case
        shape, channels, power = data.x_train.shape[1:], _channels(case, data), mean_square(data)
        surrogate = outlook.activation(case, power, channels)
        initializer = outlook.weights(case, power, channels).initializer
        self.prediction = outlook.predict(case, surrogate, power, channels)
        self.effect = outlook.effect(case, self.prediction, power, channels)
        self.network = networks.build(case, shape, data.classes, surrogate, initializer)
        kept, held = split(case, data)
        self._x, self._y = tf.constant(data.x_train[kept]), tf.constant(data.y_train[kept])
        self._validation, self._test = (
            (data.x_train[held], data.y_train[held]),
            (data.x_test, data.y_test),
        )
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._optimizer = networks.build_optimizer(case, self.network)
        self.network.model.compile(self._optimizer, self._loss)
        self._blends = (
            [layer.hold_blend() for layer in self.network.activations] if case.annealing else []
        )
        self._state = networks.State(self.network.model, self._optimizer)
        self._probe = Probe(self.network, self._loss)
        places = tf.TensorSpec([None, case.batch_size], tf.int32)
        data = [tf.TensorSpec.from_tensor(tensor) for tensor in (self._x, self._y)]
        self._train, self._count = compiled(self._steps, [places, *data]), compiled(self._scores)

    @property
    def steps_per_epoch(self):
        return len(self._x) // self.case.batch_size

    def start(self, seed):
        """Puts all weights and the optimizer into the state in which that seed's training begins."""
        self._state.reset(seed)

    def run(self, seed, progress=lambda steps: None):
        """Trains from a seed and returns the `Run`; `progress` hears of the steps as they are made."""
        started = time.perf_counter()
        probed = self._x[:_PROBED], self._y[:_PROBED]
        self.start(seed)
        before, dead = self._probe.backward(*probed), self._dead_units()
        self.start(seed)
        history, diverged = self._epochs(seed, progress)
        accuracy, loss = self._evaluate(*self._test)
        after = self._probe.backward(*probed)
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
            predicted_gradient_ratio=self.prediction and self.prediction.gradient_ratio,
            predicted_cosine=self._predicted_cosine(),
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

    def _predicted_cosine(self):
        aligned = self.prediction and self.prediction.alignment
        return None if aligned is None else float(aligned[0])

    def _epochs(self, seed, progress):
        """The history, and whether the loss left the range of numbers."""
        history = {"loss": [], "accuracy": [], "dead_units": []}
        if len(self._validation[0]):
            history["validation_accuracy"] = []
        for epoch in range(self.case.epochs):
            loss, accuracy = self._epoch(
                networks.batches(seed, epoch, len(self._x), self.case.batch_size), progress
            )
            history["loss"].append(loss)
            history["accuracy"].append(accuracy)
            history["dead_units"].append(self._dead_units())
            if len(self._validation[0]):
                history["validation_accuracy"].append(self._evaluate(*self._validation)[0])
            if not np.isfinite(loss):
                return history, True
        return history, False

    def _dead_units(self):
        return self._probe.dead_units(self._test[0][:_WATCHED])

    def _epoch(self, places, progress):
        """Mean loss and accuracy over the steps; the loss is NaN or infinite where one step's was."""
        totals = np.zeros(2)
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            totals += np.array(self._train(chunk, self._x, self._y))
            progress(len(chunk))
            if not np.isfinite(totals[0]):
                break
        return tuple(float(total) for total in totals / len(places))

    def _steps(self, places, x, y):
        """Makes one step for each row of places; the sums of the losses and of the accuracies, in float64.

        The data are arguments, because TensorFlow never frees the graph of a custom gradient, nor
        what it captures.
        """
        loss, accuracy = tf.zeros([], tf.float64), tf.zeros([], tf.float64)
        for batch in places:
            step_loss, step_accuracy = self._step(tf.gather(x, batch), tf.gather(y, batch))
            loss += tf.cast(step_loss, tf.float64)
            accuracy += tf.cast(step_accuracy, tf.float64)
        return loss, accuracy

    def _anneal(self):
        """What `callbacks.SurrogateAnnealing` does before a step, within the graph."""
        if self._blends:
            steps = self.case.annealing * self.case.epochs * self.steps_per_epoch
            made = tf.cast(tf.convert_to_tensor(self._optimizer.iterations), tf.float64)
            for blend in self._blends:
                blend.assign(tf.cast(tf.nn.relu(1 - made / steps), tf.float32))

    def _step(self, x, y):
        model = self.network.model
        self._anneal()
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = self._loss(y, logits)
        self._optimizer.apply(
            tape.gradient(loss, model.trainable_variables), model.trainable_variables
        )
        return loss, tf.reduce_mean(_hits(y, logits))

    def _evaluate(self, x, y):
        """Accuracy and loss on images."""
        parts = range(0, len(x), _EVALUATED)
        sums = [
            np.array(self._count(x[at : at + _EVALUATED], y[at : at + _EVALUATED])) for at in parts
        ]
        right, loss = np.sum(sums, axis=0) / len(x)
        return float(right), float(loss)

    def _scores(self, x, y):
        logits = self.network.model(x, training=False)
        count = tf.cast(len(x), tf.float32)
        return tf.reduce_sum(_hits(y, logits)), count * self._loss(y, logits)


def _hits(y, logits):
    """1 for each right guess; NaN guesses the class 0."""
    guesses = tf.argmax(tf.where(tf.math.is_nan(logits), tf.zeros_like(logits), logits), axis=1)
    return tf.cast(guesses == y, tf.float32)


def check(case, data):
    """Raises the ValueError that `Trainer` would, without the seconds that it takes to predict and to build."""
    power, channels = mean_square(data), _channels(case, data)
    outlook.activation(case, power, channels)
    outlook.weights(case, power, channels)
    networks.check_pools(case, data.x_train.shape[1:])
    split(case, data)


def split(case, data):
    """The places of the images to train with, and of those held out, drawn once for all seeds."""
    count = min(case.images or len(data.x_train), len(data.x_train))
    order = np.random.default_rng(0).permutation(len(data.x_train))[:count]
    held, kept = np.split(order, [round(case.validation * count)])
    if len(kept) < case.batch_size or (case.validation and not len(held)):
        raise ValueError(
            f"{case.data} with images={count} and validation={case.validation:g} leaves {len(kept)} images to train "
            f"and {len(held)} to validate, with batch_size={case.batch_size}: too few."
        )
    return kept, held


def mean_square(data):
    """Of the numbers of the training images."""
    return float(np.mean([np.mean(np.square(part)) for part in np.array_split(data.x_train, 100)]))


def _channels(case, data):
    """How many numbers enter each unit of the first layer, per place of the kernel."""
    shape = data.x_train.shape[1:]
    return int(np.prod(shape)) if case.network == "mlp" else (*shape, 1)[2]

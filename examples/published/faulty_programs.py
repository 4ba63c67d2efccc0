"""Public faulty Keras programs, rewritten for Keras 3, each with its repaired twin.

    faulty = PROGRAMS[0].build(True)
    faulty.model.fit(faulty.x, faulty.y, **faulty.fit)

Questions on Stack Overflow (the number is that of the question) and programs on GitHub, as the
benchmarks of these papers collected them:

    DeepLocalize   Wardat et al. 2021, ICSE, github.com/Wardat-ISU/DeepLocalize
    DeepFD         Cao et al. 2022, ICSE, github.com/ArabelaTso/DeepFD, for the list of faults
    AUTOTRAINER    Zhang et al. 2021, ICSE, github.com/shiningrain/AUTOTRAINER

Left out are programs whose only fault is too few epochs or too small a batch, those that train as
well as their published repair (51930566, 37624102 and others), and those without public code.
Programs with the same fault in the same model are there once. All code is new. The layers are
those of the programs, except that images and layers of convolutions are smaller. Data that cannot
be generated are replaced by data of the same shape and size of numbers.

A repaired twin has the published repair. Where this is not enough to train within the few hundred
steps here, further changes are named in the program's docstring.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
from sklearn import datasets

_LOCALIZE = "https://github.com/Wardat-ISU/DeepLocalize/tree/master/Benchmark"
_AUTOTRAINER = "https://github.com/shiningrain/AUTOTRAINER/tree/master/AutoTrainer/demo_case"

FAULTS = (
    "last activation",
    "hidden activation",
    "initial weights",
    "loss",
    "labels",
    "inputs",
    "targets",
    "learning rate",
)


@dataclasses.dataclass(frozen=True)
class Twin:
    """A compiled model, not trained yet, its data, and further arguments of `fit`."""

    model: keras.Model
    x: np.ndarray
    y: np.ndarray
    fit: dict[str, Any]


Make: TypeAlias = Callable[[bool], Twin]


@dataclasses.dataclass(frozen=True)
class Program:
    """A public program.

    Attributes:
        id: the number of the question, or the name of the program.
        source: its address.
        faults: kinds of faults, some of `FAULTS`, the gravest first.
        layer: the layer that has the gravest fault; None if none has.
        make: the function that builds a twin.
    """

    id: str
    source: str
    faults: tuple[str, ...]
    layer: str | None
    make: Make

    def build(self, faulty: bool, seed: int = 0) -> Twin:
        """The faulty or the repaired twin, with weights from a seed."""
        keras.utils.set_random_seed(seed)
        return self.make(faulty)


PROGRAMS: list[Program] = []


def program(
    name: str, *faults: str, layer: str | None = None, source: str = ""
) -> Callable[[Make], Make]:
    """A decorator that adds a function to `PROGRAMS`."""

    def add(make: Make) -> Make:
        address = source or f"https://stackoverflow.com/questions/{name}"
        PROGRAMS.append(Program(name, address, faults, layer, make))
        return make

    return add


def halves() -> tuple[list[Program], list[Program]]:
    """The programs at odd places, on which rules were improved, and the others, held out."""
    return PROGRAMS[::2], PROGRAMS[1::2]


# ---- parts that several programs share


def _pick(faulty: bool, wrong: Any, right: Any) -> Any:
    return wrong if faulty else right


def _dense(units: int, activation: str | None = None, name: str = "output", weights: Any = None):
    initializer = weights or "glorot_uniform"
    return keras.layers.Dense(units, activation, kernel_initializer=initializer, name=name)


def _model(shape: tuple[int, ...], *layers: keras.layers.Layer) -> keras.Sequential:
    return keras.Sequential([keras.Input(shape), *layers])


def _twin(
    model: keras.Model,
    loss: str,
    optimizer: str | keras.optimizers.Optimizer,
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int = 32,
    epochs: int = 10,
) -> Twin:
    model.compile(optimizer, loss)
    fit = {"batch_size": batch_size, "epochs": epochs}
    return Twin(model, x.astype("float32"), y, fit)


def _sgd(rate: float, momentum: float = 0.0) -> keras.optimizers.SGD:
    return keras.optimizers.SGD(rate, momentum=momentum, nesterov=momentum > 0)


def _adam(rate: float) -> keras.optimizers.Adam:
    return keras.optimizers.Adam(rate)


def _uniform() -> keras.initializers.Initializer:
    """The "uniform" of Keras 1."""
    return keras.initializers.RandomUniform(-0.05, 0.05)


def _normal(deviation: float = 0.05) -> keras.initializers.Initializer:
    """The "normal" of Keras 1."""
    return keras.initializers.RandomNormal(stddev=deviation)


def _standardised(x: np.ndarray) -> np.ndarray:
    deviation = x.std(axis=0)
    # A constant column stays 0.
    return (x - x.mean(axis=0)) / np.where(deviation == 0, 1, deviation)


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(labels.max() + 1, dtype="float32")[labels]


def _xor() -> tuple[np.ndarray, np.ndarray]:
    """The four examples, 64 times, so that an epoch has several steps."""
    x = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (64, 1))
    return x, x.sum(axis=1, keepdims=True) % 2


def _digits(largest: float) -> tuple[np.ndarray, np.ndarray]:
    """600 images of 8 x 8 pixels from 0 to `largest`, and their labels: MNIST in small."""
    x, labels = datasets.load_digits(return_X_y=True)
    return x[:600] / 16 * largest, labels[:600]


def _blobs(count: int) -> tuple[np.ndarray, np.ndarray]:
    x, labels = datasets.make_blobs(count, centers=3, n_features=2, cluster_std=2, random_state=2)
    return x, _one_hot(labels)


# ---- questions on Stack Overflow


@program("31556268", "loss", "learning rate")
def xor_with_absolute_error(faulty: bool) -> Twin:
    """XOR with mean absolute error. Repair: squared error and Adam; here its rate is 0.05."""
    x, y = _xor()
    model = _model((2,), _dense(4, "sigmoid", "hidden"), _dense(1, "sigmoid"))
    loss = _pick(faulty, "mean_absolute_error", "mean_squared_error")
    optimizer = _pick(faulty, _sgd(0.05, 0.11), _adam(0.05))
    return _twin(model, loss, optimizer, x, y, 4)


@program("31880720", "last activation", layer="output")
def softmax_of_one_unit(faulty: bool) -> Twin:
    """Two classes, one unit with softmax, which is always 1. Repair: sigmoid."""
    y = np.repeat([1, 0], 250)
    x = np.repeat(y[:, None], 128, axis=1)
    model = _model(
        (128,),
        _dense(50, "relu", "hidden"),
        keras.layers.Dropout(0.2),
        _dense(50, "relu", "hidden_1"),
        keras.layers.Dropout(0.2),
        _dense(1, _pick(faulty, "softmax", "sigmoid")),
    )
    return _twin(model, "binary_crossentropy", "rmsprop", x, y[:, None], 32, 5)


@program("33969059", "last activation", "inputs", "targets", layer="output")
def softmax_for_a_sum(faulty: bool) -> Twin:
    """A weighted sum of numbers up to 10 000, softmax at the output.

    Repair: no activation. Further: standardised inputs and targets, default weights, no Dropout of
    a half of three units, and a tenth of the learning rate.
    """
    weights = _pick(faulty, _uniform(), None)
    x = np.random.default_rng(0).uniform(0, 10_000, (600, 3))
    y = x @ [[2.0], [1.0], [0.5]] + 2.2
    rate = _pick(faulty, 0.5, 0.0)
    model = _model(
        (3,),
        _dense(3, "tanh", "hidden", weights),
        keras.layers.Dropout(rate),
        _dense(2, "tanh", "hidden_1", weights),
        keras.layers.Dropout(rate),
        _dense(1, _pick(faulty, "softmax", None), weights=weights),
    )
    if faulty:
        return _twin(model, "mean_squared_error", _sgd(0.1, 0.9), x, y)
    return _twin(model, "mean_squared_error", _sgd(0.01, 0.9), _standardised(x), _standardised(y))


@program("34311586", "last activation", "learning rate", "initial weights", layer="output")
def softmax_for_xor(faulty: bool) -> Twin:
    """XOR with softmax of one unit and a learning rate of 0.001.

    Repair: sigmoid and 0.1, for 10 000 epochs. Further, for fewer: default weights, tanh and Adam.
    """
    x, y = _xor()
    weights = _pick(faulty, _uniform(), None)
    activation = _pick(faulty, "sigmoid", "tanh")
    model = _model(
        (2,),
        _dense(2, activation, "hidden", weights),
        _dense(3, activation, "hidden_1", weights),
        _dense(1, _pick(faulty, "softmax", "sigmoid"), weights=weights),
    )
    optimizer = _pick(faulty, _sgd(0.001, 0.9), _adam(0.1))
    return _twin(model, "mean_squared_error", optimizer, x, y, 4, 20)


@program("38648195", "last activation", "loss", layer="output")
def softmax_for_several_labels(faulty: bool) -> Twin:
    """Three labels that may hold at once, with softmax. Repair: sigmoid and its cross-entropy."""
    x, y = datasets.make_multilabel_classification(1000, n_features=20, n_classes=3, random_state=0)
    model = _model(
        (20,),
        _dense(20, "relu", "hidden"),
        keras.layers.Dropout(0.5),
        _dense(20, "relu", "hidden_1"),
        keras.layers.Dropout(0.5),
        _dense(3, _pick(faulty, "softmax", "sigmoid")),
    )
    loss = _pick(faulty, "mean_squared_error", "binary_crossentropy")
    return _twin(model, loss, "sgd", x, y, 20, 12)


@program("39217567", "hidden activation", "initial weights", "learning rate", layer="hidden")
def sigmoids_with_small_weights(faulty: bool) -> Twin:
    """Bits to bits through sigmoids with weights of 0.05.

    Repair: ReLU. Further: default weights and Adam, since here are no 1000 epochs; the targets are
    the inputs, as in the repair, in both twins.
    """
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1
    activation = _pick(faulty, "sigmoid", "relu")
    weights = _pick(faulty, _normal(), None)
    model = _model(
        (8,),
        _dense(8, activation, "hidden", weights),
        _dense(8, activation, "hidden_1", weights),
        _dense(8, "sigmoid", weights=weights),
    )
    optimizer = _pick(faulty, _sgd(0.01), _adam(0.01))
    return _twin(model, "mean_squared_error", optimizer, x, x, 8)


@program("39525358", "inputs", "initial weights")
def letters_as_numbers(faulty: bool) -> Twin:
    """Codes of letters, 65 to 70, as inputs. Repair: standardised; here with 10 x the rate."""
    x = np.random.default_rng(0).integers(65, 71, (400, 3))
    y = (x[:, :1] >= 68).astype(int)
    model = _model(
        (3,),
        _dense(12, "relu", "hidden", _uniform()),
        _dense(3, "relu", "hidden_1", _uniform()),
        _dense(1, "sigmoid", weights=_uniform()),
    )
    optimizer = _adam(_pick(faulty, 0.001, 0.01))
    x = _pick(faulty, x, _standardised(x))
    return _twin(model, "binary_crossentropy", optimizer, x, y, 10)


@program("44066044", "last activation", "inputs", layer="output")
def relu_for_a_probability(faulty: bool) -> Twin:
    """Packets in a network, ReLU before binary cross-entropy, addresses as numbers.

    Repair: sigmoid and standardised inputs; here with 10 times the rate.
    """
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, (400, 1))
    columns = [
        3_232_235_770 + draw.integers(0, 10, (400, 2)),
        np.tile([6, 128], (400, 1)),
        524_032 + draw.integers(0, 3, (400, 1)) * 256,
        draw.integers(400, 60_000, (400, 1)),
        y * [12, 61, 6, 0, 206] * draw.uniform(0.5, 1.5, (400, 5)),
    ]
    x = np.concatenate(columns, axis=1)
    model = _model(
        (11,),
        _dense(12, "relu", "hidden", _normal()),
        _dense(12, "relu", "hidden_1", _normal()),
        _dense(1, _pick(faulty, "relu", "sigmoid"), weights=_normal()),
    )
    optimizer = _adam(_pick(faulty, 0.001, 0.01))
    x = _pick(faulty, x, _standardised(x))
    return _twin(model, "binary_crossentropy", optimizer, x, y, 10)


@program("45337371", "last activation", layer="output")
def softmax_without_gradient(faulty: bool) -> Twin:
    """Gradients that are always 0, through softmax of one unit. Repair: sigmoid."""
    x = np.random.default_rng(0).uniform(0, 1, (500, 5))
    y = (x.sum(axis=1, keepdims=True) > 2.5).astype(int)
    model = _model(
        (5,),
        _dense(60, "relu", "hidden"),
        _dense(50, "relu", "hidden_1"),
        _dense(1, _pick(faulty, "softmax", "sigmoid")),
    )
    return _twin(model, "binary_crossentropy", "adam", x, y, 10)


@program("45442843", "last activation", "inputs", "loss", layer="output")
def one_price(faulty: bool) -> Twin:
    """A price near 20 000, softmax of one unit and absolute error.

    Repair: standardised input, sigmoid and cross-entropy; here with a larger rate.
    """
    x = np.random.default_rng(0).uniform(15_000, 25_000, (400, 1))
    y = (x < 20_000).astype(int)
    model = _model(
        (1,),
        _dense(1, "sigmoid", "hidden"),
        _dense(1, _pick(faulty, "softmax", "sigmoid"), weights=_normal()),
    )
    if faulty:
        return _twin(model, "mean_absolute_error", "rmsprop", x, y, 20)
    optimizer = keras.optimizers.RMSprop(0.02)
    return _twin(model, "binary_crossentropy", optimizer, _standardised(x), y, 20)


@program("47352366", "last activation", layer="output")
def relu_for_digits(faulty: bool) -> Twin:
    """MNIST with ReLU before categorical cross-entropy. Repair: softmax."""
    x, labels = _digits(1)
    bias = keras.initializers.Constant(0.1)
    model = _model(
        (64,),
        keras.layers.Reshape((8, 8, 1)),
        keras.layers.Conv2D(8, 5, padding="same", activation="relu", bias_initializer=bias),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(16, 5, padding="same", activation="relu", bias_initializer=bias),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(64, "relu", bias_initializer=bias),
        keras.layers.Dropout(0.5),
        _dense(10, _pick(faulty, "relu", "softmax")),
    )
    return _twin(model, "categorical_crossentropy", "adam", x, _one_hot(labels))


@program("47724077", "inputs")
def census(faulty: bool) -> Twin:
    """Ages, codes of categories and sums of money side by side. Repair: standardised, SGD."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 600)
    columns = [
        draw.integers(17, 90, (600, 1)),
        draw.integers(0, 9, (600, 1)),
        draw.lognormal(12, 0.5, (600, 1)),
        draw.integers(0, 2, (600, 1)),
        np.clip(draw.normal(9 + 3 * y, 2), 1, 16)[:, None],
        draw.integers(0, 2, (600, 5)),
        draw.exponential(3000, (600, 2)) * (draw.uniform(0, 1, (600, 2)) < 0.1),
        np.clip(draw.normal(38 + 6 * y, 10), 1, 99)[:, None],
        draw.integers(0, 2, (600, 1)),
    ]
    x = np.concatenate(columns, axis=1)
    model = _model((14,), _dense(21, "relu", "hidden"), _dense(2, "softmax"))
    optimizer = _pick(faulty, _adam(0.001), _sgd(0.01))
    x = _pick(faulty, x, _standardised(x))
    return _twin(model, "categorical_crossentropy", optimizer, x, _one_hot(y), 20)


@program("48221692", "last activation", layer="output")
def sigmoid_for_a_parabola(faulty: bool) -> Twin:
    """Values from 3 to 103 with sigmoid at the output. Repair: no activation."""
    x = np.arange(-10, 10, 0.1)[:, None]
    y = x**2 + 3
    model = _model((1,), _dense(5, "sigmoid", "hidden"), _dense(1, _pick(faulty, "sigmoid", None)))
    return _twin(model, "mean_squared_error", "sgd", x, y, 20, 40)


@program("48251943", "last activation", layer="output")
def relu_for_negative_numbers(faulty: bool) -> Twin:
    """Targets of both signs with ReLU at the output. Repair: tanh."""
    x = np.random.default_rng(0).normal(0.5, 0.8, (400, 2))
    y = np.tanh(x[:, :1] - x[:, 1:])
    model = _model((2,), _dense(4, "relu", "hidden"), _dense(1, _pick(faulty, "relu", "tanh")))
    return _twin(model, "mean_squared_error", "sgd", x, y, 10, 8)


@program("48385830", "learning rate", "hidden activation", "initial weights", "loss")
def linear_layers_that_diverge(faulty: bool) -> Twin:
    """MNIST with two linear layers, weights of deviation 1 and a learning rate of 3.

    Repair: sigmoid, softmax and cross-entropy. Further: default weights and a rate of 0.1.
    """
    x, labels = _digits(1)
    weights = _pick(faulty, _normal(1.0), None)
    model = _model(
        (64,),
        _dense(30, _pick(faulty, None, "sigmoid"), "hidden", weights),
        _dense(10, _pick(faulty, None, "softmax"), weights=weights),
    )
    loss = _pick(faulty, "mean_squared_error", "categorical_crossentropy")
    rate = _pick(faulty, 3.0, 0.1)
    return _twin(model, loss, _sgd(rate), x, _one_hot(labels), 10)


@program("48594888", "inputs")
def pixels_up_to_255(faulty: bool) -> Twin:
    """CIFAR-10 with pixels from 0 to 255. Repair: divided by 255."""
    x, labels = _digits(_pick(faulty, 255, 1))
    model = _model(
        (8, 8, 1),
        keras.layers.Conv2D(16, 3, activation="relu", kernel_initializer="he_normal"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(32, 3, activation="relu", kernel_initializer="he_normal"),
        keras.layers.Flatten(),
        _dense(64, "relu", "hidden"),
        keras.layers.Dropout(0.3),
        _dense(10, "softmax"),
    )
    x = x.reshape(-1, 8, 8, 1)
    return _twin(model, "categorical_crossentropy", "adam", x, _one_hot(labels))


@program("48934338", "learning rate")
def parabola_that_explodes(faulty: bool) -> Twin:
    """Values up to 125 with a learning rate of 0.1. Repair: 0.001."""
    draw = np.random.default_rng(0)
    x = np.arange(0, 5, 0.01)[:, None]
    y = 5 * x**2 + draw.standard_normal(x.shape) ** 3
    model = _model(
        (1,),
        _dense(50, "relu", "hidden"),
        _dense(30, "relu", "hidden_1", _uniform()),
        _dense(1),
    )
    rate = _pick(faulty, 0.1, 0.001)
    return _twin(model, "mean_squared_error", _sgd(rate), x, y)


@program("50079585", "labels", "last activation", "loss", layer="output")
def three_classes_for_one_sigmoid(faulty: bool) -> Twin:
    """Labels 0, 1 and 2 for one sigmoid. Repair: softmax of three units."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 300)
    x = draw.uniform(0, 0.6, (300, 16, 16, 3))
    # Each class has a colour of its own.
    x[np.arange(300), :, :, labels] += 0.2
    model = _model(
        (16, 16, 3),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        _dense(64, "relu", "hidden"),
        keras.layers.Dropout(0.5),
        _pick(faulty, _dense(1, "sigmoid"), _dense(3, "softmax")),
    )
    if faulty:
        return _twin(model, "binary_crossentropy", "rmsprop", x, labels[:, None], 16)
    return _twin(model, "categorical_crossentropy", "rmsprop", x, _one_hot(labels), 16)


@program("52800582", "targets", "inputs", "hidden activation")
def fourth_power(faulty: bool) -> Twin:
    """x**4 for x up to 100. Repair: both standardised, ReLU for sigmoid; here a larger rate."""
    x = np.arange(-100, 100, 0.5)[:, None]
    y = x**4
    model = _model(
        (1,),
        _dense(50, _pick(faulty, "sigmoid", "relu"), "hidden"),
        _dense(50, "elu", "hidden_1"),
        _dense(1),
    )
    if faulty:
        return _twin(model, "mean_squared_error", _adam(0.001), x, y)
    return _twin(model, "mean_squared_error", _adam(0.01), _standardised(x), _standardised(y))


@program("55328966", "last activation", "inputs", "learning rate", layer="output")
def sigmoid_for_digits(faulty: bool) -> Twin:
    """MNIST from 0 to 255, sigmoid before categorical cross-entropy, a rate of 0.0001.

    Repair: divided by 255, softmax and Adam; here with 10 times the rate.
    """
    x, labels = _digits(_pick(faulty, 255, 1))
    model = _model(
        (64,),
        _dense(64, None, "hidden"),
        _dense(50, "relu", "hidden_1"),
        _dense(10, _pick(faulty, "sigmoid", "softmax")),
    )
    optimizer = _pick(faulty, _sgd(0.0001), _adam(0.001))
    return _twin(model, "categorical_crossentropy", optimizer, x, _one_hot(labels))


@program("59325381", "labels")
def labels_divided_by_255(faulty: bool) -> Twin:
    """Labels divided by 255 along with the images, so that all become 0. Repair: one-hot."""
    x, labels = _digits(1)
    model = _model(
        (8, 8, 1),
        keras.layers.Conv2D(16, 3, padding="same"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(8, 3, padding="same"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        _dense(64, "relu", "hidden"),
        _dense(10, "softmax"),
    )
    x = x.reshape(-1, 8, 8, 1)
    if faulty:
        return _twin(model, "sparse_categorical_crossentropy", "adam", x, labels[:, None] / 255)
    return _twin(model, "categorical_crossentropy", "adam", x, _one_hot(labels))


# ---- examples of AUTOTRAINER


@program(
    "Improper_Activation",
    "last activation",
    layer="output",
    source=f"{_AUTOTRAINER}/Improper_Activation_case",
)
def relu_for_blobs(faulty: bool) -> Twin:
    """Three clusters with ReLU before categorical cross-entropy. Repair: softmax."""
    x, y = _blobs(700)
    hidden = [_dense(50, "relu", f"hidden_{number}", "he_uniform") for number in range(4)]
    model = _model((2,), *hidden, _dense(3, _pick(faulty, "relu", "softmax")))
    return _twin(model, "categorical_crossentropy", _adam(0.001), x, y)


@program("Oscillating_Loss", "learning rate", source=f"{_AUTOTRAINER}/Oscillating_Loss_Case")
def loss_that_oscillates(faulty: bool) -> Twin:
    """Three clusters, batches of one example, SGD 0.01 with momentum. Repair: Adam."""
    x, y = _blobs(300)
    model = _model((2,), _dense(50, "relu", "hidden", "he_uniform"), _dense(3, "softmax"))
    optimizer = _pick(faulty, _sgd(0.01, 0.9), _adam(0.001))
    return _twin(model, "categorical_crossentropy", optimizer, x, y, 1, 8)


@program(
    "Gradient_Vanish",
    "hidden activation",
    layer="hidden_0",
    source=f"{_AUTOTRAINER}/Gradient_Vanish_Case",
)
def eight_sigmoids(faulty: bool) -> Twin:
    """Two circles through eight layers of sigmoids. Repair: selu; here with 10 x the rate."""
    x, y = datasets.make_circles(700, noise=0.1, random_state=1)
    activation = _pick(faulty, "sigmoid", "selu")
    weights = _pick(faulty, "he_uniform", "lecun_normal")
    hidden = [_dense(5, activation, f"hidden_{number}", weights) for number in range(8)]
    model = _model((2,), *hidden, _dense(1, "sigmoid"))
    optimizer = _adam(_pick(faulty, 0.001, 0.01))
    return _twin(model, "binary_crossentropy", optimizer, x, y[:, None], 32, 20)


# ---- programs on GitHub


@program(
    "FacialKeypoints",
    "learning rate",
    source=f"{_LOCALIZE}/GitHub/Buggy%20Model/FacialKeypointsDetection",
)
def keypoints(faulty: bool) -> Twin:
    """Points in images, linear layers, Adam with a rate of 0.1. Repair: SGD 0.01 with clipnorm."""
    draw = np.random.default_rng(0)
    pose = draw.standard_normal((500, 6))
    x = 1 / (1 + np.exp(-pose @ draw.standard_normal((6, 576))))
    y = 0.3 * np.tanh(pose @ draw.standard_normal((6, 30)) / 2)
    model = _model((576,), _dense(50, None, "hidden"), _dense(100, None, "hidden_1"), _dense(30))
    gentle = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True, clipnorm=1)
    return _twin(model, "mean_squared_error", _pick(faulty, _adam(0.1), gentle), x, y)

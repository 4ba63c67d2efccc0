"""The one-step test, against losses computed by other means."""

import io
import json

import keras
import numpy as np
import pytest
from rich.console import Console

import keras_surrogate as ks
from keras_surrogate.diagnosis import first_order

L = keras.layers
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 6))
Y = RANDOM.normal(size=(32, 2))


def linear(optimizer="sgd"):
    model = keras.Sequential([keras.Input((6,)), L.Dense(2, use_bias=False, dtype="float64")])
    model.compile(optimizer, "mse")
    return model


def test_a_quadratic_loss_in_numpy():
    model = linear(keras.optimizers.SGD(0.03))
    (kernel,) = model.get_weights()
    x, y = X.astype("float32").astype(float), Y.astype("float32").astype(float)
    gradient = x.T @ (x @ kernel - y) / len(x)

    def loss(change):
        return np.mean((x @ (kernel + change) - y) ** 2)

    result = first_order(model, x, y, lengths=(0.1, 0.01))
    assert result.loss == pytest.approx(loss(0), rel=1e-6)
    assert result.optimizer.name == "SGD"
    assert result.optimizer.promised == pytest.approx(0.03 * np.sum(gradient**2), rel=1e-5)
    assert result.optimizer.decrease == pytest.approx(loss(0) - loss(-0.03 * gradient), rel=1e-5)
    assert [step.length for step in result.steps] == pytest.approx([0.01, 0.1], rel=1e-6)
    for step in result.steps:
        factor = step.length * np.linalg.norm(kernel) / np.linalg.norm(gradient)
        assert step.promised == pytest.approx(factor * np.sum(gradient**2), rel=1e-5)
        assert step.decrease == pytest.approx(loss(0) - loss(-factor * gradient), rel=1e-4)
    assert result.drop == pytest.approx(result.steps[1].decrease / result.loss)
    np.testing.assert_array_equal(model.get_weights()[0], kernel)


def test_the_shorter_the_step_the_better_a_true_gradient_keeps_its_promise():
    result = first_order(linear(), X, Y, lengths=(1e-4, 1e-2, 1.0))
    kept = [step.kept for step in result.steps]
    assert kept[0] == pytest.approx(1, abs=1e-2)
    assert kept[0] > kept[1] > kept[2]


def network(surrogate, optimizer="adam"):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(16),
            L.BatchNormalization(),
            L.Activation(surrogate),
            L.Dropout(0.2, seed=4),
            L.Dense(2),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def test_the_optimizers_step_is_the_one_that_training_takes():
    x, y = X.astype("float32"), Y.astype("float32")
    model = network(ks.get("ste_sign"))
    model.fit(x, y, verbose=0)
    before = [weight.copy() for weight in model.get_weights()]
    result = first_order(model, x, y)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert first_order(model, x, y) == result
    model.train_on_batch(x, y)
    changes = [
        after - old
        for after, old, variable in zip(model.get_weights(), before, model.weights, strict=True)
        if variable.trainable
    ]
    size = np.sqrt(
        sum(
            np.sum(old**2.0)
            for old, variable in zip(before, model.weights, strict=True)
            if variable.trainable
        )
    )
    length = np.sqrt(sum(np.sum(change**2.0) for change in changes)) / size
    assert result.optimizer.length == pytest.approx(length, rel=1e-4)
    assert result.optimizer.promised > 0


def test_a_reversed_gradient_promises_what_it_takes_away():
    model = network(ks.Surrogate("tanh", scale=-1.0))
    # Only the layers before the activation, whose gradient is reversed.
    model.layers[-1].trainable = False
    model.compile("sgd", "mse")
    result = first_order(model, X.astype("float32"), Y.astype("float32"), lengths=(0.01,))
    assert result.steps[0].kept < -0.5
    assert result.drop == 0


def test_print_to_dict_and_no_gradient_at_all():
    result = first_order(network(ks.get("ste_sign")), X, Y)
    console = Console(width=80, file=io.StringIO())
    result.print(console)
    text = console.file.getvalue()
    assert "Adam" in text
    assert "drop: along the gradient the loss falls by" in text
    assert json.loads(json.dumps(result.to_dict()))["drop"] == result.drop
    assert "Adam keeps" in repr(result)
    assert "Adam" in result._repr_html_()
    model = linear()
    flat = first_order(model, np.zeros((4, 6)), np.zeros((4, 2)))
    assert flat.steps == ()
    assert flat.drop == 0
    assert flat.optimizer.kept is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"y": None}, "first_order needs targets"),
        ({"y": Y[:3]}, "first_order: x has 32 examples, but y has 3"),
        ({"x": X[:0], "y": Y[:0]}, "first_order: x is empty"),
        ({"lengths": (0.1, -1)}, "lengths must be positive numbers, but is -1"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        first_order(linear(), **{"x": X, "y": Y, **arguments})

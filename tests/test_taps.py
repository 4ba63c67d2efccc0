"""A traced step shows its tensors, and no method stays wrapped afterwards."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import true_gradients
from keras_surrogate.recording import quantities, taps
from keras_surrogate.recording.applied import AppliedGradients


def make_model(optimizer="sgd"):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(1, name="b")]
    )
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def gradients_of(model):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.ones((4, 2))))
    return tape.gradient(loss, model.trainable_variables)


def wrapped(model):
    owners = [
        model.optimizer,
        getattr(model.optimizer, "inner_optimizer", model.optimizer),
        *model.layers,
    ]
    return {
        name for owner in owners for name in ("apply", "update_step", "call") if name in vars(owner)
    }


def test_a_layer_that_is_called_twice_shows_both_outputs_and_both_deltas():
    inputs, twice = keras.Input((2,)), keras.layers.Dense(2, name="twice")
    model = keras.Model(inputs, twice(twice(inputs)))
    model.compile("sgd", "mse")
    x = tf.ones((4, 2))
    with taps.Taps(model, observed=[twice], deltas=True).step() as step:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x))
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        first, second = step.outputs[id(twice)]
        deltas = step.deltas[id(twice)]
    kernel, bias = (variable.numpy() for variable in twice.weights)
    kernel = kernel + 0.01 * gradients[0].numpy()  # as it was before the step
    bias = bias + 0.01 * gradients[1].numpy()
    np.testing.assert_allclose(first, x @ kernel + bias, rtol=1e-5)
    np.testing.assert_allclose(second, first @ kernel + bias, rtol=1e-5)
    # The backward pass shows the last call first.
    np.testing.assert_array_equal(deltas[0], np.ones((4, 2)))
    np.testing.assert_allclose(deltas[1], np.ones((4, 2)) @ kernel.T, rtol=1e-5)


def test_a_step_shows_gradients_weights_outputs_and_deltas():
    model = make_model()
    before = [variable.numpy() for variable in model.trainable_variables]
    with taps.Taps(model, observed=model.layers, deltas=True, weights=True).step() as step:
        gradients = gradients_of(model)
        model.optimizer.apply(gradients, model.trainable_variables)
    assert [variable for _, _, variable in step.gradients] == model.trainable_variables
    assert all(
        shown is gradient for (_, shown, _), gradient in zip(step.gradients, gradients, strict=True)
    )
    assert [
        (step.weights_before[id(v)].numpy() == b).all()
        for v, b in zip(model.variables, before, strict=True)
    ]
    assert [step.outputs[id(layer)][0].shape for layer in model.layers] == [(4, 3), (4, 1)]
    assert (step.deltas[id(model.layers[1])][0].numpy() == 1).all()
    assert not wrapped(model)


def test_only_the_outermost_optimizer_shows_its_gradients():
    model = make_model(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))
    model.held_as_well = model.optimizer.inner_optimizer
    with taps.Taps(model).step() as step:
        model.optimizer.apply(gradients_of(model), model.trainable_variables)
    assert {id(optimizer) for optimizer, _, _ in step.gradients} == {id(model.optimizer)}


def test_after_an_error_nothing_is_wrapped_and_a_users_own_method_is_there_again():
    model = make_model()
    calls = []
    apply = model.optimizer.apply
    vars(model.optimizer)["apply"] = own = lambda *arguments: calls.append(1) or apply(*arguments)
    tap = taps.Taps(
        model, observed=model.layers, applied=AppliedGradients(model, [quantities.GradientNorm()])
    )
    with pytest.raises(RuntimeError), tap.step():
        assert wrapped(model) == {"apply", "call", "update_step"}
        raise RuntimeError
    assert wrapped(model) == {"apply"}
    assert vars(model.optimizer)["apply"] is own
    with tap.step() as step:
        model.optimizer.apply(gradients_of(model), model.trainable_variables)
    assert calls == [1]
    assert len(step.gradients) == 4


def test_threads_that_take_turns_see_their_own_gradients_and_the_last_one_unwraps():
    model = make_model()
    gradients = [tf.zeros_like(variable.value) for variable in model.trainable_variables]
    tap, turns, seen = taps.Taps(model), threading.Barrier(2), {}

    def trace(number):
        with tap.step() as step:
            turns.wait()
            step_gradients = [gradient + number for gradient in gradients]
            model.optimizer.apply(step_gradients, model.trainable_variables)
            turns.wait()
            if number == 1:
                threads[0].join()
                assert wrapped(model) == {"apply"}
        seen[number] = {float(tf.reduce_max(gradient)) for _, gradient, _ in step.gradients}

    threads = [threading.Thread(target=trace, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {0: {0.0}, 1: {1.0}}
    assert not wrapped(model)


def test_another_thread_without_a_step_is_left_alone():
    model = make_model()
    gradients = gradients_of(model)
    with taps.Taps(model, observed=model.layers).step() as step:
        other = threading.Thread(
            target=lambda: model.optimizer.apply(gradients, model.trainable_variables)
        )
        other.start()
        other.join()
    assert step.gradients == []
    assert step.outputs == {}


def test_within_true_gradients_deltas_are_not_seen_but_all_else_is():
    model = make_model()
    with true_gradients(model), taps.Taps(model, observed=model.layers, deltas=True).step() as step:
        model.optimizer.apply(gradients_of(model), model.trainable_variables)
    assert len(step.gradients) == 4
    assert len(step.outputs) == 2


def test_every_optimizer_a_model_holds_is_found_once():
    model = make_model()
    model.second, model.again = keras.optimizers.Adam(), model.optimizer
    assert taps.optimizers_of(model) == [model.optimizer, model.second]

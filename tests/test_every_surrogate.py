"""The contract of pairs: presets, ordinary activations, and every forward with every backward."""

import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import functions, presets, testing
from keras_surrogate.surrogate import Surrogate

FALLBACKS = ["sparse_plus", "sparse_sigmoid"]


@pytest.mark.parametrize("name", presets.names())
def test_presets(name):
    testing.check_surrogate(presets.get(name))


@pytest.mark.parametrize("name", functions.names() + FALLBACKS)
def test_ordinary_activations(name):
    testing.check_surrogate(Surrogate(name))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(functions.names())))
def test_whole_contract_of_pairs(number, pytestconfig):
    """Each eighth pair, so that every function has half a dozen partners on either side; all with --all-pairs."""
    forward = functions.names()[number]
    some = slice(None) if pytestconfig.getoption("all_pairs") else slice(number % 8, None, 8)
    for backward in functions.names()[some]:
        testing.check_surrogate(Surrogate(forward, backward, scale=-0.7), xla=False, save=False)


@pytest.mark.parametrize("forward", functions.names() + FALLBACKS)
def test_every_forward_with_every_backward(forward):
    """Value and gradient of all pairs, against the two functions on their own, in one traced function."""
    pairs = [Surrogate(forward, backward) for backward in functions.names() + FALLBACKS]

    @tf.function
    def gradients(x):
        def gradient(pair):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = pair(x)
            return y, tape.gradient(y, x)

        return [gradient(pair) for pair in pairs]

    x = tf.constant(np.append(testing.POINTS, 0.0))
    for pair, (y, gradient) in zip(pairs, gradients(x), strict=True):
        np.testing.assert_allclose(y, pair.forward.value(x), rtol=1e-12)
        np.testing.assert_allclose(
            gradient, pair.backward.slope(x), rtol=1e-6, atol=1e-7, err_msg=str(pair)
        )


@pytest.mark.parametrize("name", functions.names())
def test_the_pair_of_a_function_with_itself_is_the_ordinary_activation(name):
    """Second opinion without this package's slopes: plain automatic differentiation of the value."""
    function, x = functions.get(name), tf.constant(testing.POINTS)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        plain, ours = function.value(x), Surrogate(name)(x)
    np.testing.assert_array_equal(ours, plain)
    expected = tape.gradient(plain, x, unconnected_gradients="zero")
    np.testing.assert_allclose(tape.gradient(ours, x), expected, rtol=1e-7, atol=1e-9)

"""The contract of pairs: presets, ordinary activations, and every forward with every backward.

By default every function is checked once on either side of a pair: in every mode in a graph, in reverse
mode under XLA (one ten of the pairs in every mode). Each backward that needs only the output is checked
once with it, and the contract on presets and each sixteenth function, under XLA on one of each.
`--all` has the product: every forward with every backward, the whole contract for every function, and
all of it under XLA.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import compiling, functions, presets, testing
from keras_surrogate.surrogate import Surrogate

# Activations of Keras that the package does not have; the second one is not in Keras 3.8.
FALLBACKS = [name for name in ("sparse_plus", "sparse_sigmoid") if hasattr(keras.activations, name)]
NAMES = functions.names() + FALLBACKS
X = tf.constant(np.append(testing.POINTS, 0.0))


def some(items):
    """Parameters of which each sixteenth is tested by default, the others with `--all`."""
    return [
        pytest.param(item, marks=() if number % 16 == 0 else pytest.mark.slow)
        for number, item in enumerate(items)
    ]


def value_and_gradient(pair, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = pair(x)
    return value, tape.gradient(value, x)


def derivatives(pair, x):
    """Value, reverse mode, second order and forward mode, which are all cheap to trace."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = pair(x)
        gradient = inner.gradient(value, x)
    second = outer.gradient(gradient, x, unconnected_gradients="zero")
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        value_again = pair(x)
    return value, gradient, second, accumulator.jvp(value_again)


def assert_derivatives(pairs, compute=derivatives, **compile_arguments):
    """Those of all pairs, in one traced function, against the two functions on their own."""
    got = tf.function(lambda x: [compute(pair, x) for pair in pairs], **compile_arguments)(X)
    for pair, (value, gradient, *others) in zip(pairs, got, strict=True):
        with tf.GradientTape() as tape:
            tape.watch(X)
            slope = pair.scale * pair.backward.slope(X)
        curvature = tape.gradient(slope, X, unconnected_gradients="zero")
        agree(value, pair.forward.value(X), pair, rtol=1e-12)
        agree(gradient, slope, pair)
        if not others:
            continue
        second, forward_mode = others
        agree(second[:-1], curvature[:-1], pair)  # at 0 there may be a kink
        # Under XLA forward mode of selu has the slope of the other side at exactly 0.
        agree(forward_mode[:-1], slope[:-1], pair)


def agree(got, expected, pair, rtol=1e-6, atol=1e-7):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=str(pair))


@pytest.mark.parametrize("name", presets.names())
def test_presets(name, everything):
    testing.check_surrogate(presets.get(name), xla=everything or name == "sugar_bsilu")


@pytest.mark.parametrize("name", some(NAMES))
def test_ordinary_activations(name, everything):
    testing.check_surrogate(Surrogate(name), xla=everything or name == NAMES[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(functions.names())))
def test_whole_contract_of_pairs(number):
    """Each eighth pair, so that every function has half a dozen partners on either side."""
    forward = functions.names()[number]
    for backward in functions.names()[number % 8 :: 8]:
        testing.check_surrogate(Surrogate(forward, backward, scale=-0.7), xla=False, save=False)


@pytest.mark.slow
@pytest.mark.parametrize("forward", NAMES)
def test_every_forward_with_every_backward(forward):
    assert_derivatives([Surrogate(forward, backward) for backward in NAMES])


def tens(pairs):
    """XLA takes longer for one large function than for several of ten pairs."""
    return [pairs[start : start + 10] for start in range(0, len(pairs), 10)]


def first_title(pairs):
    return pairs[0].title


NEXT = [
    Surrogate(forward, backward, scale=-0.7)
    for forward, backward in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)
]


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
@pytest.mark.parametrize("pairs", tens(NEXT), ids=first_title)
def test_every_function_on_either_side_of_a_pair(pairs, jit_compile, everything):
    in_every_mode = everything or not jit_compile or pairs[0] is NEXT[0]
    compute = derivatives if in_every_mode else value_and_gradient
    assert_derivatives(pairs, compute, jit_compile=jit_compile)


@pytest.mark.parametrize("pairs", some(tens(NEXT)), ids=first_title)
def test_every_function_compiled_by_itself(pairs, monkeypatch):
    """As large tensors are in a graph."""
    monkeypatch.setattr(compiling, "LEAST_ELEMENTS", 1)
    monkeypatch.setattr(compiling, "_shapes", set())
    assert_derivatives(pairs)
    # The last group is a Keras activation, which is a callable and never compiled.
    assert compiling._shapes or len(pairs) == 1


ZERO = tf.zeros(())


def from_output(pair):
    """Whether the gradient is computed from the output, which depends on the two functions alone."""
    return pair.backward.gradient_from_output(ZERO, ZERO, of=pair.forward) is not None


def with_a_forward_that_suffices(backward):
    """This backward with the first forward of whose output it can be computed, preferably not its own; or none."""
    forwards = [*(name for name in NAMES if name != backward), backward]
    return list(filter(from_output, (Surrogate(name, backward) for name in forwards)))[:1]


FROM_OUTPUT = [pair for name in NAMES for pair in with_a_forward_that_suffices(name)]


@pytest.mark.parametrize("pairs", tens(FROM_OUTPUT), ids=first_title)
def test_every_backward_that_needs_only_the_output(pairs):
    assert_derivatives(pairs)


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

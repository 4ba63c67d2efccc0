"""The parts of the measurement: norms, names of layers, and `GradientNorms`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_surrogate import gradients, records
from keras_surrogate.recording import names, norms


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8), st.integers(-30, 30))
def test_norm_is_numpy_norm_at_every_magnitude(numbers, exponent):
    array = np.array(numbers) * 10.0**exponent
    expected = np.linalg.norm(array.astype("float32").astype("float64"))
    np.testing.assert_allclose(
        norms.norms([tf.constant(array, tf.float32)])[0], expected, rtol=1e-6, atol=1e-37
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_norms_of_ordinary_vanishing_and_zero_gradients_together(jit_compile):
    tensors = [tf.constant([3.0, 4.0]) * scale for scale in (1.0, 1e-25, 0.0, 1e25)]
    compiled = tf.function(lambda tensors: norms.norms(tensors), jit_compile=jit_compile)
    np.testing.assert_allclose(compiled(tensors), [5, 5e-25, 0, 5e25], rtol=1e-6)


# Vectors, small and large tensors of equal and of other shapes, some of them vectors.
SMALL_SHAPES = [(3,), (4, 5), (), (4, 5), (2, 3, 4), (7,), (4, 5), (1, 1)]
LARGE_SHAPES = [(70, 80), (5000,), (90, 3, 20), (70, 80), (5000,), (70, 80)]
SHAPES = [*LARGE_SHAPES[:3], *SMALL_SHAPES, *LARGE_SHAPES[3:]]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
@pytest.mark.parametrize("dtypes", [["float32"], ["float32", "float64", "bfloat16"]])
def test_norms_of_many_tensors_small_and_large(dtypes, scale, jit_compile, compiled):
    random = np.random.default_rng(0)
    tensors = [
        tf.constant(random.normal(size=shape) * scale, dtypes[number % len(dtypes)])
        for number, shape in enumerate(SHAPES)
    ]
    expected = [np.linalg.norm(np.ravel(tensor.numpy()).astype("float64")) for tensor in tensors]
    measure = tf.function(lambda *tensors: norms.norms(tensors, compiled), jit_compile=jit_compile)
    np.testing.assert_allclose(measure(*tensors), expected, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_norms_of_large_tensors_of_which_some_vanish(jit_compile):
    # Large enough for several groups, of which only some need float64.
    scales = [1.0, 1e-25, 1.0, 1.0, 0.0, 1e25, 1.0]
    tensors = [tf.fill([400, 500], scale) for scale in scales]
    groups = norms._groups(tensors, compiled=False)
    assert [len(group) for group in groups] == [2, 2, 2, 1]
    measure = tf.function(lambda *tensors: norms.norms(tensors, False), jit_compile=jit_compile)
    expected = np.array(scales) * np.sqrt(400 * 500)
    np.testing.assert_allclose(measure(*tensors), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "sizes", [[1], [10] * 5, [10**7], [10**6, 1, 1], [1, 1, 10**6], [10**6] * 9]
)
def test_groups_keep_the_order_and_are_few(sizes):
    specs = [tf.TensorSpec((size,)) for size in sizes]
    groups = norms._groups(specs, compiled=False)
    assert [spec for group in groups for spec in group] == specs
    assert all(groups)
    assert len(groups) <= norms._MOST_GROUPS


@pytest.mark.parametrize("shape", [(1000, 1000), (2**20,), (999, 1001), (8, 3**11)])
@pytest.mark.parametrize("compiled", [False, True])
def test_norm_of_a_million_elements(compiled, shape):
    array = np.random.default_rng(0).normal(size=shape).astype("float32")
    found = norms.norms([tf.constant(array), tf.ones((5, 5))], compiled)
    np.testing.assert_allclose(found, [np.linalg.norm(array.astype("float64")), 5], rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_norm_of_tensors_of_unknown_shape(compiled):
    measure = tf.function(lambda *tensors: norms.norms(tensors, compiled), autograph=False)
    shapes = [tf.TensorSpec(None), tf.TensorSpec((None,)), tf.TensorSpec((None, 4))]
    found = measure.get_concrete_function(*shapes)(tf.ones((5, 5)), tf.ones(9), tf.ones((4, 4)))
    np.testing.assert_allclose(found, [5, 3, 4])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_norm_in_every_dtype(dtype):
    np.testing.assert_allclose(norms.norms([tf.constant([300.0, 400.0], dtype)]), 500)


def test_norm_of_sparse_gradients_adds_repeated_rows():
    slices = tf.IndexedSlices(
        tf.constant([[1.0], [2.0], [4.0]]), tf.constant([0, 0, 1]), dense_shape=tf.constant([3, 1])
    )
    np.testing.assert_allclose(norms.norms([slices]), 5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_norm_whose_square_overflows_in_half_precision_is_finite(dtype):
    large = tf.fill([4, 4], tf.constant(1e4, dtype))
    np.testing.assert_allclose(norms.norms([norms.at_least_float32(large)])[0], 4e4, rtol=1e-2)
    assert norms.at_least_float32(large).dtype == tf.float32


@pytest.mark.parametrize("shape", [(), (2,), (2, 1), (1, 2), (1, 2, 1, 1)])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_norm_of_what_is_not_finite_is_not_finite(bad, jit_compile, shape):
    compiled = tf.function(
        lambda tensor: norms.norms([tensor, tf.ones(3)]), jit_compile=jit_compile
    )
    assert not np.isfinite(compiled(tf.reshape([1.0, bad][-int(np.prod(shape)) :], shape))[0])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 9))
def test_norm_of_tensors_of_every_shape(shape, seed):
    array = np.random.default_rng(seed).normal(size=shape)
    np.testing.assert_allclose(
        norms.norms([tf.constant(array)])[0], np.sqrt(np.sum(array**2)), rtol=1e-12
    )


def test_layers_are_named_by_path_and_counted_once():
    shared = keras.layers.Dense(4, name="same")
    encoder = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, name="dense")], name="encoder"
    )
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(1, name="head")(shared(encoder(shared(inputs))))
    frozen = keras.layers.Dense(1, name="frozen", trainable=False)(outputs)
    model = keras.Model(inputs, frozen)
    groups = names.layer_variables(model)
    assert list(groups) == ["same", "encoder/dense", "head"]
    assert [id(variable) for group in groups.values() for variable in group] == [
        id(variable) for variable in model.trainable_variables
    ]


def test_equal_names_are_told_apart_and_a_models_own_variable_has_its_name():
    class Twin(keras.Model):
        def __init__(self):
            super().__init__(name="twin")
            self.left = keras.layers.Dense(1, name="dense")
            self.right = keras.layers.Dense(1, name="dense")
            self.offset = self.add_weight(shape=(), name="offset")

        def call(self, inputs):
            return self.left(inputs) + self.right(inputs) + self.offset

    model = Twin()
    model(tf.ones((1, 2)))
    assert {name: len(group) for name, group in names.layer_variables(model).items()} == {
        "dense": 2,
        "dense_1": 2,
        "twin": 1,
    }


def custom_loop(make_norms, jit_compile=False, steps=4):
    """A hand-written loop with Adam, recorded by `GradientNorms`, and its norms by NumPy."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Embedding(5, 3, name="table"),
        keras.layers.Flatten(),
        keras.layers.Dense(1, name="head"),
    ]
    model = keras.Sequential([keras.Input((2,), dtype="int32"), *layers])
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)
    norms, expected = make_norms(model), []

    @tf.function(jit_compile=jit_compile)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(x)))
        gradients = tape.gradient(loss, model.trainable_variables)
        norms.record(zip(gradients, model.trainable_variables, strict=True))
        optimizer.apply(gradients, model.trainable_variables)
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    for number in range(steps):
        shown = step(tf.constant([[0, number % 5], [0, 3]]))
        expected.append([np.linalg.norm(gradient) for gradient in shown])
    return norms, np.array(expected)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_norms_in_a_loop_of_ones_own(jit_compile):
    norms, expected = custom_loop(gradients.GradientNorms, jit_compile)
    assert norms.layer_names == ["table", "head"]
    np.testing.assert_allclose(norms.norms[:, 0], expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(
        norms.norms[:, 1], np.hypot(expected[:, 1], expected[:, 2]), rtol=1e-5
    )
    np.testing.assert_allclose(norms.global_norms, np.linalg.norm(expected, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(norms.steps, range(4))
    assert norms.recorded.kind == "raw"


def test_norms_of_single_variables_and_of_more_steps_than_the_buffer_holds():
    norms, expected = custom_loop(
        lambda model: gradients.GradientNorms(model.trainable_variables, capacity=3), steps=5
    )
    np.testing.assert_array_equal(norms.steps, [2, 3, 4])
    np.testing.assert_allclose(norms.norms, expected[2:], rtol=1e-5)
    assert [name.split("/")[-1] for name in norms.layer_names] == ["embeddings", "kernel", "bias"]


def test_norms_of_plain_variables_in_eager_mode_without_those_that_have_no_gradient():
    used, unused = tf.Variable([3.0, 4.0], name="used"), tf.Variable(1.0, name="unused")
    norms = gradients.GradientNorms([used, unused])
    norms.record([(2 * used, used), (None, unused)])
    np.testing.assert_allclose(norms.norms, [[10, 0]])


def test_norms_on_two_replicas_are_those_of_the_sum(two_replicas):
    with two_replicas.scope():
        variable = tf.Variable([1.0, 1.0])
        norms = gradients.GradientNorms([variable])

    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        norms.record([(tf.cast(tf.stack([3 * replica, 4 - 4 * replica]), tf.float32), variable)])

    tf.function(two_replicas.run)(step)
    np.testing.assert_allclose(norms.norms, [[5]])
    assert norms.recorded.kind == "applied"


def test_norms_made_outside_of_the_strategy_that_they_are_used_in(two_replicas):
    with two_replicas.scope():
        variable = tf.Variable([1.0])
    norms = gradients.GradientNorms([variable])
    with pytest.raises(ValueError, match=r"create it within `with strategy\.scope\(\):`"):
        two_replicas.run(lambda: norms.record([(tf.constant([1.0]), variable)]))


def test_norms_of_nothing_and_of_strange_variables():
    with pytest.raises(ValueError, match="there are no trainable variables"):
        gradients.GradientNorms(keras.Sequential([keras.layers.Dense(1)]))
    norms = gradients.GradientNorms([tf.Variable(1.0)])
    with pytest.raises(ValueError, match="created without these variables: other"):
        norms.record([(tf.constant(1.0), tf.Variable(2.0, name="other"))])
    with pytest.raises(ValueError, match="no gradients"):
        norms.record([])


def test_the_name_of_the_total_is_not_given_to_a_layer():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="global")])
    assert list(names.layer_variables(model)) == ["global_1"]
    assert list(names.layers_by_name(model)) == ["global_1"]


def test_gradients_and_variables_turned_round():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    norms = gradients.GradientNorms(model)
    pairs = [(variable, tf.zeros(variable.shape)) for variable in model.trainable_variables]
    with pytest.raises(
        ValueError, match=r"a variable came first. Write record\(zip\(gradients, variables\)\)"
    ):
        norms.record(pairs)


def test_files_of_a_loop_of_ones_own(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="only")])
    norms = gradients.GradientNorms(model)
    for size in (1.0, 2.0, 3.0):
        norms.record(
            [(size * tf.ones(variable.shape), variable) for variable in model.trainable_variables]
        )
    norms.to_csv(tmp_path / "run.csv")
    norms.to_npz(tmp_path / "run.npz")
    for name in ("run.csv", "run.npz"):
        loaded = records.load(tmp_path / name)
        assert loaded.layer_names == norms.layer_names == ["only"]
        np.testing.assert_allclose(loaded.norms[:, 0], np.sqrt(3) * np.array([1, 2, 3]), rtol=1e-6)
        assert loaded.kind == norms.kind == "raw"

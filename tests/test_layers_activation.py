"""`SurrogateActivation` as a Keras layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate.layers import SurrogateActivation

X = np.array([[-2.0, -0.5, 0.5, 3.0]], "float32")
PAIR = ks.Surrogate("relu", "softplus", 0.5)


@pytest.mark.parametrize(
    "arguments",
    [
        ("relu", "softplus", 0.5),
        (PAIR,),
        (PAIR.get_config(),),
        (keras.saving.serialize_keras_object(PAIR),),
        ("artificial_relu", None, 0.5),
        (ks.functions.Relu(), keras.activations.softplus, 0.5),
    ],
)
def test_every_way_to_name_a_pair(arguments):
    assert SurrogateActivation(*arguments).surrogate == PAIR


def test_value_and_gradient():
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = SurrogateActivation(PAIR)(x)
    np.testing.assert_array_equal(y, np.maximum(X, 0))
    np.testing.assert_allclose(tape.gradient(y, x), 0.5 / (1 + np.exp(-X)), rtol=1e-6)


def test_configuration_holds_plain_values_and_round_trips():
    layer = SurrogateActivation(
        "relu", ks.functions.LeakyRelu(0.3), 2.0, name="mine", dtype="mixed_bfloat16"
    )
    again = SurrogateActivation.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.surrogate == layer.surrogate
    assert (again.name, again.compute_dtype) == ("mine", "bfloat16")


def test_saved_models_and_clones_keep_it(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), SurrogateActivation("sugar_nelu")]
    )
    model.save(tmp_path / "model.keras")
    for copy in (
        keras.saving.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
    ):
        assert copy.layers[-1].surrogate == ks.get("sugar_nelu")


def test_it_passes_masks_on_and_keeps_shapes():
    inputs = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(5, 2, mask_zero=True)(inputs)
    activated = SurrogateActivation(PAIR)(embedded)
    assert activated.shape == (None, None, 2)
    assert SurrogateActivation(PAIR).compute_output_shape((None, 7, 2)) == (None, 7, 2)
    outputs = keras.layers.LSTM(3)(activated)
    masked = keras.Model(inputs, outputs)
    np.testing.assert_allclose(
        masked(np.array([[1, 2, 0]])), masked(np.array([[1, 2, 0, 0]])), rtol=1e-6
    )


def test_it_has_no_weights_and_serves_as_activation_argument():
    layer = SurrogateActivation(PAIR)
    dense = keras.layers.Dense(2, activation=layer)
    dense(X)
    assert layer.weights == []
    assert len(dense.weights) == 2


def test_keras_layer_expectations():
    keras_test_input = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    for dtype in ("float32", "float64", "mixed_float16"):
        y = SurrogateActivation(PAIR, dtype=dtype)(keras_test_input)
        assert y.dtype == keras.DTypePolicy(dtype).compute_dtype


@pytest.mark.parametrize(
    "arguments", [("rleu",), ("relu", "rleu"), ("relu", None, float("inf")), (None,), ("relu", 3)]
)
def test_mistakes_are_value_errors(arguments):
    with pytest.raises(ValueError):
        SurrogateActivation(*arguments)


def slope(layer, x=X):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    return tape.gradient(y, x).numpy()


def blended_slope(share):
    return 0.5 * share / (1 + np.exp(-X)) + (1 - share) * (X > 0)


def test_blend_mixes_the_slopes_and_can_be_changed():
    layer = SurrogateActivation(PAIR, blend=0.25)
    np.testing.assert_allclose(slope(layer), blended_slope(0.25), rtol=1e-6)
    compiled = tf.function(layer)
    for share in (0.0, 0.5, 1.0):
        layer.blend = share
        np.testing.assert_allclose(slope(compiled), blended_slope(share), rtol=1e-6)
    assert compiled.experimental_get_tracing_count() == 1


def test_blend_is_saved_and_exported_and_is_no_weight(tmp_path):
    layer = SurrogateActivation(PAIR, name="mixed")
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.blend = 0.25
    assert model.weights == []
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    assert keras.saving.load_model(tmp_path / "model.keras").get_layer("mixed").blend == 0.25
    loaded = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(slope(loaded.serve), blended_slope(0.25), rtol=1e-6)


def test_a_layer_that_does_not_anneal_has_no_variable_and_no_second_slope():
    layer = SurrogateActivation("relu", "softplus")
    concrete = tf.function(lambda x: slope_in_graph(layer, x)).get_concrete_function(
        tf.TensorSpec([4])
    )
    assert not concrete.graph.captures
    assert not [
        operation for operation in concrete.graph.get_operations() if operation.type == "ReluGrad"
    ]


def slope_in_graph(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    return tape.gradient(y, x)


@pytest.mark.parametrize("blend", [-0.1, 1.1, float("nan"), "half", None])
def test_a_blend_outside_its_range(blend):
    with pytest.raises(ValueError, match="blend must be from 0 to 1, but is"):
        SurrogateActivation(PAIR, blend=blend)


def test_residual_is_an_argument_and_saved():
    layer = SurrogateActivation("relu", "bsilu", residual="uint8")
    assert layer.surrogate == ks.Surrogate("relu", "bsilu", residual="uint8")
    assert SurrogateActivation.from_config(layer.get_config()).surrogate == layer.surrogate

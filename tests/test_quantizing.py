"""`conversion.quantize` and `export_litert`: few bits in training, integers in a LiteRT file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import conversion, datasets
from keras_surrogate.layers import FakeQuantize, SurrogateWeights

L = keras.layers


@pytest.fixture(scope="module")
def digits():
    data = datasets.load("digits")
    return data.x_train[..., None], data.y_train, data.x_test[..., None], data.y_test


def convolutional() -> keras.Model:
    """Conv, BatchNormalization, ReLU, a sum, pooling and Dense; logits."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="first")(inputs)
    x = L.BatchNormalization(name="normalized")(x)
    x = L.ReLU(name="positive")(x)
    y = L.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = L.Add(name="sum")([x, y])
    x = L.MaxPooling2D()(x)
    x = L.Conv2D(16, 3, activation="relu6", name="second")(x)
    x = L.GlobalAveragePooling2D(name="mean")(x)
    x = L.Dense(32, "relu", name="third")(x)
    return keras.Model(inputs, L.Dense(10, name="last")(x), name="convolutional")


@pytest.fixture(scope="module")
def trained(digits):
    keras.utils.set_random_seed(0)
    model = convolutional()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(digits[0], digits[1], epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def quantized(trained, digits):
    return conversion.quantize(trained, digits[0][:500])


def wrapped(model):
    return {layer.name: layer for layer in model.layers if isinstance(layer, SurrogateWeights)}


def ranges(model):
    return {layer.name for layer in model.layers if isinstance(layer, FakeQuantize)}


def test_outputs_are_those_of_the_float_model_within_the_steps(trained, quantized, digits):
    expected = trained(digits[2])
    got = quantized(digits[2])
    assert np.abs(got - expected).max() > 0
    assert np.abs(got - expected).mean() < 0.02 * np.ptp(expected)
    assert (np.argmax(got, -1) == np.argmax(expected, -1)).mean() > 0.97


def test_ranges_stand_where_values_are_computed(quantized):
    assert ranges(quantized) == {
        "image_range",
        "positive_range",
        "depthwise_range",
        "sum_range",
        "second_range",
        "mean_range",
        "third_range",
        "last_range",
    }


def test_the_float_model_does_not_change(trained, digits):
    before = [np.array(weight) for weight in trained.weights]
    conversion.quantize(trained, digits[0][:100], bits=2)
    for weight, value in zip(trained.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


# The largest level over the mean size of the weights, if that is less than their maximum.
REACH = {2: 1.53409, 3: 2.44696}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_on_the_grid_of_their_bits(trained, bits):
    layer = wrapped(conversion.quantize(trained, bits=bits))["second"]
    kernel = np.array(layer.layer.kernel)
    size = np.abs(kernel)
    largest = np.minimum(size.max((0, 1, 2)), REACH.get(bits, np.inf) * size.mean((0, 1, 2)))
    steps = 2 ** (bits - 1) - 1
    level = np.clip(np.round(kernel / largest * steps), -steps, steps)
    expected = level / steps * largest
    got = layer.effective_weights()["kernel"]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_one_bit_is_the_sign_times_the_mean(trained):
    layer = wrapped(conversion.quantize(trained, bits=1))["third"]
    kernel = np.array(layer.layer.kernel)
    expected = np.where(kernel >= 0, 1, -1) * np.abs(kernel).mean()
    np.testing.assert_allclose(layer.effective_weights()["kernel"], expected, rtol=1e-5)


def test_folding_a_normalisation_does_not_change_the_outputs(digits):
    for layer in (
        L.Conv2D(4, 3, use_bias=True),
        L.Conv2DTranspose(4, 3, use_bias=False),
        L.DepthwiseConv2D(3, depth_multiplier=2),
        L.SeparableConv2D(4, 3),
        L.Dense(4),
    ):
        model = keras.Sequential([keras.Input((8, 8, 2)), layer, L.BatchNormalization()])
        generator = np.random.default_rng(0)
        for weight in model.weights:
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        x = generator.normal(size=(5, 8, 8, 2)).astype("float32")
        folded = conversion.quantize(model, x, bits=8, activation_bits=None, ends=None)
        assert not any(isinstance(one, L.BatchNormalization) for one in folded.layers)
        np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-4)


@keras.saving.register_keras_serializable(package="test_quantizing")
class Doubled(L.Dense):
    def call(self, inputs):
        return super().call(2 * inputs)


@keras.saving.register_keras_serializable(package="test_quantizing")
class Negated(L.Flatten):
    def call(self, inputs):
        return -super().call(inputs)


def test_layers_and_models_that_nested_models_share():
    dense = L.Dense(4, name="dense")
    base = keras.Sequential([keras.Input((4,)), dense, L.ReLU()], name="base")
    i = keras.Input((4,))
    first = keras.Model(i, base(i), name="first")
    j = keras.Input((4,))
    second = keras.Model(j, L.BatchNormalization()(dense(base(j))), name="second")
    k = keras.Input((4,))
    model = keras.Model(k, [first(k), second(k), L.Dense(2, name="last")(dense(k))])
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    with pytest.warns(UserWarning, match="stays in float"):
        quantized = conversion.quantize(model, x)
    assert len(quantized.trainable_variables) == len(model.trainable_variables)
    for got, expected in zip(quantized(x), model(x), strict=True):
        np.testing.assert_allclose(got, expected, atol=0.05 * np.ptp(expected))
    for got, expected in zip(conversion.strip(quantized)(x), quantized(x), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_subclasses_are_not_taken_for_their_base_class(tmp_path):
    layers = [Doubled(4, name="doubled"), L.BatchNormalization(), Negated(name="negated")]
    model = keras.Sequential([keras.Input((3,)), *layers, L.Dense(2)])
    layers[1].set_weights([np.full(4, 2.0), np.ones(4), np.ones(4), np.full(4, 0.5)])
    x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
    with pytest.warns(UserWarning, match="stays in float"):
        quantized = conversion.quantize(model, x)
    assert "negated_range" in ranges(quantized)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.05 * np.ptp(model(x)))
    with pytest.raises(ValueError, match=r"doubled \(Doubled\), .*negated \(Negated\)"):
        conversion.export_litert(quantized, tmp_path / "model.tflite")


def test_the_report_says_what_was_done(trained):
    model = conversion.quantize(trained, bits=4, ends=8, layers={"third": None})
    text = str(conversion.report(model))
    for line in (
        "first: float weights -> 8 bits",
        "second: float weights -> 4 bits",
        "last: float weights -> 8 bits",
        "normalized: BatchNormalization -> folded",
        "third: float weights -> float, as asked",
    ):
        assert line in text


def test_a_normalisation_that_cannot_be_folded_stays():
    inputs = keras.Input((4,))
    x = L.Dense(4, "relu")(inputs)
    model = keras.Model(inputs, L.Dense(2)(L.BatchNormalization(name="kept")(x)))
    with pytest.warns(UserWarning, match="kept: this BatchNormalization stays in float"):
        quantized = conversion.quantize(model)
    assert any(layer.name == "kept" for layer in quantized.layers)


def test_a_normalisation_that_always_takes_the_batch_stays():
    inputs = keras.Input((4,))
    x = L.BatchNormalization(name="kept")(L.Dense(4)(inputs), training=True)
    model = keras.Model(inputs, x)
    x = 5 + np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    with pytest.warns(UserWarning, match=r"kept: this .* is called with training=True"):
        quantized = conversion.quantize(model, x, activation_bits=None)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.1)


def test_a_shared_layer_and_a_model_within():
    shared = L.Dense(4, "relu", name="shared")
    block = keras.Sequential([keras.Input((4,)), L.Dense(4, "relu"), L.Dense(4)], name="block")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(2)(block(shared(shared(inputs)))))
    x = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    quantized = conversion.quantize(model, x)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.1)
    assert len(wrapped(quantized)) == 2
    assert {"shared_range", "shared_range_1"} <= ranges(quantized)


def tokens(*shape):
    return np.random.default_rng(0).integers(0, 5000, shape).astype("float32")


def test_numbers_of_tokens_and_categories_are_not_rounded():
    inputs = keras.Input((6,), name="ids")
    nested_inputs = keras.Input((6,))
    nested = keras.Model(nested_inputs, L.Embedding(5000, 4)(L.Reshape((6,))(nested_inputs)))
    parts = [
        L.Embedding(5000, 4)(inputs[:, 1:3]),
        nested(L.Flatten()(inputs)),
        L.TimeDistributed(L.CategoryEncoding(5000))(inputs[:, :2, None]),
    ]
    summed = [L.Dense(2)(L.Flatten()(part)) for part in parts]
    model = keras.Model(inputs, L.Add()([*summed, L.Dense(2)(inputs / 5000.0)]))
    x = tokens(64, 6)
    quantized = conversion.quantize(model, x)
    assert np.corrcoef(np.ravel(model(x)), np.ravel(quantized(x)))[0, 1] > 0.999
    # The Dense layer after the division takes rounded numbers.
    assert "ids_range" in ranges(quantized)


def test_the_mark_of_a_masking_is_not_rounded():
    model = keras.Sequential([keras.Input((None, 3)), L.Masking(-1.0), L.LSTM(4), L.Dense(2)])
    x = 2 * np.random.default_rng(0).normal(size=(32, 6, 3)).astype("float32")
    x[:, 3:] = -1
    quantized = conversion.quantize(model, x)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.05)
    np.testing.assert_allclose(quantized(x[:, :3]), quantized(x), atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_confident_errors_keep_their_gradient(activation):
    loss = keras.losses.CategoricalCrossentropy()
    if activation == "sigmoid":
        loss = keras.losses.BinaryCrossentropy()
    head = keras.Sequential([keras.Input((4,)), L.Dense(3, activation), L.Reshape((3,))])
    x = np.eye(4, dtype="float32")[:3]
    labels = np.roll(np.eye(3, dtype="float32"), 1, axis=1)
    # Keras finds logits of any size, but not before a Reshape.
    for last, logit in ((L.Dense(3, activation), 40), (head, 8)):
        model = keras.Sequential([keras.Input((4,)), last])
        model.set_weights([logit * np.eye(4, 3), np.zeros(3)])
        gradients = []
        for one in (model, conversion.quantize(model, x)):
            with tf.GradientTape() as tape:
                value = loss(labels, one(x, training=True))
            gradients.append(tape.gradient(value, one.trainable_variables))
        assert np.abs(gradients[0][0]).max() > 0.05
        for expected, got in zip(*gradients, strict=True):
            np.testing.assert_allclose(got, expected, atol=0.003)


def test_activations_that_are_layers_or_shared(tmp_path):
    prelu = L.PReLU(keras.initializers.Constant(0.5))
    shared = L.Dense(4, "tanh")
    inputs = keras.Input((4,))
    hidden = L.Dense(4, activation=prelu)(shared(shared(inputs)))
    model = keras.Model(inputs, L.Dense(2)(hidden))
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    quantized = conversion.quantize(model, x)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.05)
    assert len(quantized.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_array_equal(conversion.strip(quantized)(x), quantized(x))
    quantized.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), quantized(x))


def test_losses_by_the_names_of_outputs(tmp_path):
    inputs = keras.Input((4,))
    hidden = L.Dense(8, "relu")(inputs)
    outputs = [L.Dense(3, "softmax", name="a")(hidden), L.Dense(1, name="b")(hidden)]
    losses = {"a": "sparse_categorical_crossentropy", "b": "mse"}
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    targets = {"a": np.arange(32) % 3, "b": x[:, :1]}
    for names in (["a", "b"], ["b"]):
        model = keras.Model(inputs, [outputs["ab".index(name)] for name in names])
        model.compile("adam", {name: losses[name] for name in names})
        quantized = conversion.quantize(model, x)
        quantized.save(tmp_path / "model.keras")
        for one in (quantized, keras.saving.load_model(tmp_path / "model.keras")):
            assert one.output_names == names
            # Keras takes no dictionary of targets for a single output.
            one.fit(x, targets if names == ["a", "b"] else targets["b"], verbose=0)
        assert conversion.strip(quantized).output_names == names


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("is_global", [False, True])
def test_other_dtypes(policy, is_global, tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    own = {} if is_global else {"dtype": policy}
    default = keras.config.dtype_policy()
    if is_global:
        keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((8,))
        y = L.BatchNormalization(**own)(L.Dense(8, **own)(inputs))
        y = L.Dense(6, "tanh", **own)(L.ReLU(**own)(y))
        model = keras.Model(inputs, L.Dense(4, **own, name="last")(y * 2))
        quantized = conversion.quantize(model, x)
        plain = conversion.strip(quantized)
    finally:
        keras.config.set_dtype_policy(default)
    assert model.output.dtype == quantized.output.dtype == plain.output.dtype
    expected, got = (np.array(one(x), "float64") for one in (quantized, plain))
    # Numbers halfway between two levels are frequent in bfloat16.
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(np.array(model(x), "float64"), expected, atol=0.1)
    with pytest.raises(ValueError, match=r"last_range \(FakeQuantize in .*float\d+, not in fl"):
        conversion.export_litert(quantized, tmp_path / "model.tflite")


class Unregistered(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = L.Dense(3)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3)


def test_functions_and_classes_that_are_not_registered():
    factor = 2.0

    def doubled_tanh(x):
        return factor * keras.ops.tanh(x)

    def absolute(target, output):
        return keras.ops.mean(keras.ops.abs(target - output))

    layers = [
        L.TimeDistributed(Unregistered()),
        L.LSTM(3, activation=doubled_tanh, return_sequences=True),
        L.Lambda(lambda x: factor * x),
        L.Flatten(),
        L.Dense(2, doubled_tanh),
    ]
    x = np.random.default_rng(0).normal(size=(32, 5, 4)).astype("float32")
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((5, 4)), *layers])
        model.compile("adam", absolute)
    quantized = conversion.quantize(model, x)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.15)
    assert quantized.distribute_strategy is strategy
    quantized.fit(x, np.zeros((32, 2)), verbose=0)
    np.testing.assert_allclose(conversion.strip(quantized)(x), quantized(x), atol=0.05)


def test_ranges_move_in_training_only(trained, digits):
    model = conversion.quantize(trained, digits[0][:100])
    layer = model.get_layer("sum_range")
    before = float(layer.high)
    model.predict(digits[0][:64], verbose=0)
    assert float(layer.high) == before
    model.fit(3 * digits[0][:64], digits[1][:64], batch_size=64, verbose=0)
    assert float(layer.high) > before


def test_without_data_the_first_batch_sets_the_ranges():
    layer = FakeQuantize(momentum=0.5)
    layer(tf.constant([-1.0, 3.0]), training=True)
    assert (float(layer.low), float(layer.high)) == (-1.0, 3.0)
    layer(tf.constant([-2.0, 1.0]), training=True)
    assert (float(layer.low), float(layer.high)) == (-1.5, 2.0)


def test_a_frozen_range_stays():
    layer = FakeQuantize()
    layer(tf.constant([-1.0, 3.0]), training=True)
    layer.trainable = False
    layer(tf.constant([-9.0, 9.0]), training=True)
    assert (float(layer.low), float(layer.high)) == (-1.0, 3.0)


def test_strip_keeps_masks():
    layers = [L.Embedding(20, 8, mask_zero=True), L.LSTM(4), L.Dense(2)]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    x = np.random.default_rng(0).integers(1, 20, (32, 6))
    x[:, 3:] = 0
    # A warning about a mask that is destroyed would be an error here.
    plain = conversion.strip(conversion.quantize(model, x))
    np.testing.assert_allclose(plain(x[:, :3]), plain(x), atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_values_and_gradients_of_ranges(bits):
    layer = FakeQuantize(bits)
    layer.build((5,))
    layer.low.assign(0.0)
    layer.high.assign(3.0)
    x = tf.constant([-1.0, 0.42, 1.62, 2.83, 7.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    steps = (2**bits - 1) / 3
    np.testing.assert_allclose(y, np.round(np.clip(x, 0, 3) * steps) / steps, atol=1e-6)
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 1, 1, 1, 0])


def test_strip_bakes_the_values(trained, digits, tmp_path):
    model = conversion.quantize(trained, digits[0][:100], bits=3)
    plain = conversion.strip(model)
    assert "keras_surrogate" not in str(keras.saving.serialize_keras_object(plain))
    np.testing.assert_array_equal(plain(digits[2]), model(digits[2]))
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(loaded(digits[2]), model(digits[2]))


def test_strip_of_numbers_halfway_between_levels():
    model = keras.Sequential([keras.Input((4000,)), FakeQuantize()])
    (layer,) = model.layers
    layer.observe([-2.345, 3.21])
    step = (layer.high.numpy() - layer.low.numpy()) / np.float32(255)
    x = step * np.arange(-1000, 1000, 0.5, dtype="float32")[None]
    plain = conversion.strip(model)
    np.testing.assert_array_equal(plain(x), model(x))
    np.testing.assert_allclose(plain.predict(x, verbose=0), model(x), atol=1.001 * step)


def test_a_range_of_zeros(tmp_path):
    dead = L.Dense(4, "relu", kernel_initializer="zeros", name="dead")
    model = keras.Sequential([keras.Input((4,)), dead, L.Dense(2, bias_initializer="ones")])
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    quantized = conversion.quantize(model, x)
    np.testing.assert_array_equal(quantized(x), np.ones((32, 2)))
    np.testing.assert_array_equal(conversion.strip(quantized)(x), quantized(x))
    with pytest.raises(ValueError, match="dead_range of sequential saw only zeros"):
        conversion.export_litert(quantized, tmp_path / "model.tflite")


def test_ranges_that_were_never_set_are_an_error(trained, digits, tmp_path):
    model = conversion.quantize(trained)
    listed = "image_range, .*last_range saw no batch"
    with pytest.raises(ValueError, match=f"strip: {listed}"):
        conversion.strip(model)
    with pytest.raises(ValueError, match=f"export_litert: {listed}"):
        conversion.export_litert(model, tmp_path / "model.tflite")
    model.fit(digits[0][:32], digits[1][:32], verbose=0)
    conversion.strip(model)
    conversion.export_litert(model, tmp_path / "model.tflite")


def test_it_trains_and_is_saved(trained, digits, tmp_path):
    model = conversion.quantize(trained, digits[0][:100], bits=2, ends=8)
    before = model.evaluate(digits[0], digits[1], verbose=0)[0]
    model.fit(digits[0], digits[1], epochs=2, verbose=0)
    assert model.evaluate(digits[0], digits[1], verbose=0)[0] < 0.8 * before
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(digits[2]), model(digits[2]))


def run_litert(path, x):
    interpreter_of = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = interpreter_of.Interpreter(str(path))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    outputs = []
    for image in x.astype("float32"):
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target)[0])
    return interpreter, np.array(outputs)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_litert_computes_the_same_with_integers(trained, digits, bits, tmp_path):
    model = conversion.quantize(trained, digits[0][:500], bits=bits)
    conversion.export_litert(model, tmp_path / "model.tflite")
    interpreter, got = run_litert(tmp_path / "model.tflite", digits[2])
    expected = np.array(model(digits[2]))
    last = model.get_layer("last_range")
    step = float(last.high - last.low) / 255
    # Ties may be broken either way, in every layer.
    assert np.abs(got - expected).max() < 2.5 * step
    ordered = np.sort(expected)
    is_clear = ordered[:, -1] - ordered[:, -2] > 2.5 * step
    assert is_clear.mean() > 0.5
    np.testing.assert_array_equal(got[is_clear].argmax(1), expected[is_clear].argmax(1))
    assert float_tensors(interpreter) == 2


def float_tensors(interpreter) -> int:
    """The number of tensors that are not integers: with integer arithmetic input and output."""
    details = interpreter.get_tensor_details()
    return sum(detail["dtype"] not in (np.int8, np.int32) for detail in details)


def test_litert_computes_residual_blocks_with_integers(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 1, use_bias=False)(inputs)
    start = L.BatchNormalization(name="linear")(x)
    x = L.Conv2D(8, 1, use_bias=False)(start)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    x = L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    x = L.BatchNormalization()(L.Conv2D(4, 1, use_bias=False)(x))
    x = L.Add()([start, x])
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
    quantized = conversion.quantize(model, x)
    assert "linear_range" in ranges(quantized)
    conversion.export_litert(quantized, tmp_path / "model.tflite")
    interpreter, _ = run_litert(tmp_path / "model.tflite", x[:1])
    assert float_tensors(interpreter) == 2


@pytest.mark.parametrize("bits", [1, 8])
def test_litert_computes_sequences(bits, tmp_path):
    layers = [L.Conv1D(5, 3, activation="relu"), L.MaxPooling1D(), L.Flatten(), L.Dense(2)]
    model = keras.Sequential([keras.Input((12, 6)), *layers])
    x = np.random.default_rng(0).normal(size=(20, 12, 6)).astype("float32")
    quantized = conversion.quantize(model, x, bits=bits)
    conversion.export_litert(quantized, tmp_path / "model.tflite")
    interpreter, got = run_litert(tmp_path / "model.tflite", x)
    last = quantized.layers[-1]
    step = float(last.high - last.low) / 255
    np.testing.assert_allclose(got, quantized(x), atol=2.5 * step)
    assert float_tensors(interpreter) == 2


def test_litert_computes_separate_activations(digits, tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = L.Dense(16, "tanh")(L.Flatten()(inputs))
    x = L.Dense(16)(x)
    x = L.Activation("sigmoid")(x)
    for last in ("softmax", "sigmoid"):
        model = keras.Model(inputs, L.Dense(10, last)(x))
        quantized = conversion.quantize(model, digits[0][:500])
        conversion.export_litert(quantized, tmp_path / "model.tflite")
        interpreter, got = run_litert(tmp_path / "model.tflite", digits[2][:50])
        np.testing.assert_allclose(got, quantized(digits[2][:50]), atol=3 / 255)
        assert float_tensors(interpreter) == 2


def test_litert_lists_the_operations_that_it_would_compute_in_float(tmp_path):
    inputs = keras.Input((8, 8, 2))
    dilated = L.Conv2D(4, 3, dilation_rate=2, activation="relu")(inputs)
    x = np.random.default_rng(0).normal(size=(20, 8, 8, 2)).astype("float32")
    for output, listed in ((dilated, "CONV_2D"), (keras.ops.exp(-inputs), "NEG")):
        model = keras.Model(inputs, L.Dense(2)(L.Flatten()(output)))
        quantized = conversion.quantize(model, x)
        with pytest.raises(ValueError, match=rf"would compute .*{listed} \(.* in float"):
            conversion.export_litert(quantized, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())
    # Operations with integer arithmetic are fine.
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(inputs[:, :2] + inputs[:, 2:4])))
    conversion.export_litert(conversion.quantize(model, x), tmp_path / "model.tflite")


def test_litert_lists_the_layers_that_it_cannot_compute(tmp_path):
    inputs = keras.Input((4,))
    x = L.Dense(4, "gelu", name="curved")(inputs)
    model = keras.Model(inputs, L.LayerNormalization(name="normalized")(x))
    quantized = conversion.quantize(model)
    with pytest.raises(ValueError, match=r"curved_activation \(.*normalized \(LayerNormal"):
        conversion.export_litert(quantized, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_bad_input(trained, tmp_path):
    for options, message in (
        ({"bits": 0}, "bits must be"),
        ({"bits": 33}, "bits must be an integer from 1 to 8"),
        ({"activation_bits": 1}, "activation_bits must be"),
        ({"ends": 9}, "ends must be"),
        ({"layers": {"fourth": 4}}, "no layer 'fourth'"),
        ({"layers": {"third": 9}}, r"layers\['third'\] must be"),
        ({"backward": "nothing"}, "nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            conversion.quantize(trained, **options)
    with pytest.raises(ValueError, match=r"convolutional has layers\.FakeQuantize al"):
        conversion.quantize(conversion.quantize(trained))
    with pytest.raises(ValueError, match="x has no rows"):
        conversion.quantize(trained, np.zeros((0, 8, 8, 1)))
    with pytest.raises(ValueError, match="x has numbers that are NaN"):
        conversion.quantize(trained, np.full((2, 8, 8, 1), np.nan))
    with pytest.raises(ValueError, match="neither swap, strip nor quantize returned it"):
        conversion.report(keras.Sequential())
    with pytest.raises(ValueError, match="not built"):
        conversion.quantize(keras.Sequential([L.Dense(3)]))
    with pytest.raises(ValueError, match="no layer with a kernel"):
        conversion.quantize(keras.Sequential([keras.Input((3,)), L.ReLU()]))
    with pytest.raises(ValueError, match="does not have activations of 8 bits"):
        conversion.export_litert(trained, tmp_path / "model.tflite")
    with pytest.raises(ValueError, match=r"must have the suffix .tflite"):
        conversion.export_litert(trained, tmp_path / "model.txt")
    with pytest.raises(ValueError, match="cannot be written"):
        conversion.export_litert(trained, tmp_path / "nowhere" / "model.tflite")


def test_a_subclassed_model_is_an_error():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(ValueError, match="functional model, but own"):
        conversion.quantize(model)

    class Ranged(keras.Model):
        def __init__(self):
            super().__init__()
            self.range = FakeQuantize(name="own_range")

        def call(self, inputs, training=False):
            return self.range(inputs, training=training)

    model = Ranged()
    model(np.ones((1, 3), "float32"), training=True)
    with pytest.raises(ValueError, match=r"own_range \(FakeQuantize\) is called by the code of"):
        conversion.strip(model)


def test_names_that_are_taken():
    layers = [L.Dense(4, "tanh", name="a"), L.Dense(4, name="a_range"), L.Dense(2, name="a_1")]
    model = keras.Sequential([keras.Input((4,)), *layers, L.ReLU(name="a_activation")])
    names = {layer.name for layer in conversion.quantize(model).layers}
    assert {"a", "a_range", "a_range_1", "a_activation", "a_activation_1"} <= names


def test_rules_for_a_kernel_do_not_act_on_the_folded_one():
    rules = {"kernel_regularizer": "l2", "kernel_constraint": keras.constraints.MaxNorm(1.0)}
    layers = [
        L.Dense(3, **rules, name="ruled"),
        L.BatchNormalization(),
        L.Dense(1, kernel_regularizer="l2"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    layers[1].moving_variance.assign([1e-4] * 3)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    with pytest.warns(UserWarning, match=r"ruled: kernel_regularizer, kernel_constraint left out"):
        quantized = conversion.quantize(model, x, activation_bits=None)
    before = np.array(quantized(x))
    quantized.fit(x, np.zeros((16, 1)), verbose=0)
    np.testing.assert_allclose(quantized(x), before, rtol=1e-5)
    # The last layer keeps its own.
    assert len(quantized.losses) == 1


def test_a_layer_with_more_weights_is_not_folded():
    dense = L.Dense(4)
    model = keras.Sequential([keras.Input((4,)), dense, L.BatchNormalization(), L.Dense(1)])
    dense.enable_lora(2)
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    with pytest.warns(UserWarning, match="stays in float"):
        quantized = conversion.quantize(model, x)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.05)


def shared_outputs():
    first, second = keras.Input((3,)), keras.Input((3,))
    dense = keras.layers.Dense(2, name="dense")
    return keras.Model([first, second], [dense(first), dense(second)])


def several_outputs():
    inputs = keras.Input((5, 3))
    outputs = keras.layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(inputs)
    return keras.Model(inputs, outputs[:2])


def one_of_several_outputs():
    inputs = keras.Input((5, 3))
    outputs = keras.layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(inputs)
    return keras.Model(inputs, [outputs[1], keras.layers.Dense(2, name="dense")(outputs[0])])


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (shared_outputs, None),
        (several_outputs, None),
        (one_of_several_outputs, ["lstm", "dense"]),
    ],
)
def test_layers_that_give_several_outputs_of_the_model(make, names):
    keras.utils.set_random_seed(0)
    model = make()
    random = np.random.default_rng(0)
    x = [random.normal(size=(32, *one.shape[1:])).astype("float32") for one in model.inputs]
    x = x if len(x) > 1 else x[0]
    quantized = conversion.quantize(model, x)
    if names is not None:
        assert quantized.output_names == names
    for one, other in zip(quantized(x), model(x), strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)
    plain = conversion.strip(quantized)
    for one, other in zip(plain(x), quantized(x), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_range_that_is_called_on_two_shapes_is_stripped(tmp_path):
    rounding = FakeQuantize(4)
    first, second = keras.Input((3,)), keras.Input((5,))
    model = keras.Model([first, second], [rounding(first), rounding(second)])
    x = [np.linspace(-1, 1, 3)[None], np.linspace(-2, 1, 5)[None]]
    model(x, training=True)
    plain = conversion.strip(model)
    assert plain.output_shape == [(None, 3), (None, 5)]
    plain.save(tmp_path / "plain.keras")
    for stripped in (plain, keras.models.load_model(tmp_path / "plain.keras")):
        for one, other in zip(stripped(x), model(x), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [1e-8, 1e-3, 1e6])
def test_the_first_batch_sets_the_range_exactly(size):
    x = (np.linspace(-1, 1, 11) * size).astype("float32")
    following, observing = FakeQuantize(8), FakeQuantize(8)
    following(x, training=True)
    observing.build(x.shape)
    observing.observe(x)
    assert following.low.numpy() == observing.low.numpy() == x[0]
    assert following.high.numpy() == observing.high.numpy() == x[-1]

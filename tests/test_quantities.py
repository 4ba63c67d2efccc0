"""Every quantity agrees with NumPy, computed from a plain `GradientTape` loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from products import edges

from keras_surrogate import Surrogate, functions, layers
from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.functions.tables import in_flat_ends, saturation
from keras_surrogate.recording import norms, output_quantities, quantities

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 6)).astype("float32")
Y = RANDOM.normal(size=(40, 2)).astype("float32")
BATCH = 16  # the last batch is a short one
EVERYTHING = quantities.names()
NAMES = ["hidden", "relu", "squash", "head"]
WITH_WEIGHTS = ["hidden", "squash", "head"]


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, name="hidden", bias_initializer="random_normal"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Dense(
                5, activation=Surrogate("sigmoid", "tanh"), name="squash", kernel_initializer="ones"
            ),
            keras.layers.Dense(2, name="head", bias_initializer="ones"),
        ]
    )


def make_optimizer():
    return keras.optimizers.Adam(0.05)


def twin(epochs):
    """Tensors of each step, in the order of the layers.

    They are gradients, weights before and after, outputs, and gradients of the outputs.
    """
    model, optimizer = make_model(), make_optimizer()
    for start in [*range(0, len(X), BATCH)] * epochs:
        x, y = X[start : start + BATCH], Y[start : start + BATCH]
        outputs = []
        with tf.GradientTape(persistent=True) as tape:
            for layer in model.layers:
                x = layer(x)
                outputs.append(x)
            loss = tf.reduce_mean(tf.square(x - y))
        gradients = tape.gradient(loss, model.trainable_variables)
        before = [variable.numpy() for variable in model.trainable_variables]
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        after = [variable.numpy() for variable in model.trainable_variables]
        yield (
            [
                [t.numpy() for t in tensors]
                for tensors in (gradients, outputs, tape.gradient(loss, outputs))
            ],
            before,
            after,
        )


def per_layer(variables):
    """Kernels and biases in one vector for all layers, and in one for each layer."""
    joined = [
        np.concatenate([np.ravel(kernel), bias])
        for kernel, bias in zip(variables[::2], variables[1::2], strict=True)
    ]
    return [np.concatenate(joined), *joined]


@pytest.fixture(
    scope="module",
    params=[
        {"jit_compile": False},
        {"jit_compile": True},
        pytest.param({"run_eagerly": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def record(request):
    model, logger = make_model(), GradientNormLogger(also=EVERYTHING)
    model.compile(make_optimizer(), "mse", **request.param)
    model.fit(X, Y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, callbacks=[logger])
    return logger.record


STEPS = list(twin(2))
GRADIENTS = {
    "gradient_norm": lambda g: np.sqrt(np.sum(np.square(g.astype("float64")))),
    "gradient_norm_1": lambda g: np.abs(g).sum(),
    "gradient_norm_inf": lambda g: np.abs(g).max(),
    "gradient_mean_absolute": lambda g: np.abs(g).mean(),
}


@pytest.mark.parametrize("quantity", GRADIENTS)
def test_gradient_quantities(record, quantity):
    expected = [
        [GRADIENTS[quantity](group) for group in per_layer(shown[0])] for shown, _, _ in STEPS
    ]
    assert record.names(quantity) == tuple(WITH_WEIGHTS)
    np.testing.assert_allclose(record.total(quantity), np.array(expected)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(record[quantity], np.array(expected)[:, 1:], rtol=1e-5)


def test_histograms(record):
    edges = 10.0 ** np.arange(
        quantities.GradientHistogram.lowest, quantities.GradientHistogram.highest + 1
    )
    for number, name in enumerate(["global", *WITH_WEIGHTS]):
        for counts, (shown, _, _) in zip(record.histograms()[name], STEPS, strict=True):
            sizes = np.abs(per_layer(shown[0])[number])
            expected, _ = np.histogram(sizes, [1e-300, *edges, np.inf])
            assert counts[0] == np.sum(sizes == 0)
            assert counts.sum() == sizes.size
            # An element within rounding of a power of ten may be on either side.
            assert np.abs(counts[1:-1] - expected).sum() <= 2
            assert counts[-1] == 0


def test_update_ratio(record):
    for row, total, (_, before, after) in zip(
        record["update_ratio"], record.total("update_ratio"), STEPS, strict=True
    ):
        changes = [
            np.linalg.norm(b - a) / np.linalg.norm(a)
            for a, b in zip(*map(per_layer, (before, after)), strict=True)
        ]
        np.testing.assert_allclose([total, *row], changes, rtol=1e-3)


ACTIVATIONS = {
    "activation_mean": np.mean,
    "activation_variance": np.var,
    "activation_zeros": lambda y: np.mean(y == 0),
}


@pytest.mark.parametrize("quantity", ACTIVATIONS)
def test_activations(record, quantity):
    expected = [[ACTIVATIONS[quantity](output) for output in shown[1]] for shown, _, _ in STEPS]
    assert record.names(quantity) == tuple(NAMES)
    np.testing.assert_allclose(record[quantity], expected, rtol=2e-4, atol=1e-6)


def test_saturated_units_are_those_in_the_flat_ends_of_a_squashing_function(record):
    assert record.names("activation_saturated") == ("squash",)
    for share, (shown, _, _) in zip(record["activation_saturated"][:, 0], STEPS, strict=True):
        y = shown[1][2]
        assert share == pytest.approx(np.mean(y * (1 - y) < 0.01 * 0.25))
    assert record["activation_saturated"].max() > 0


def test_dead_units_are_those_that_were_0_since_the_epoch_began(record):
    per_epoch = len(STEPS) // 2
    for row, number in zip(record["dead_units"], range(len(STEPS)), strict=True):
        since = STEPS[number - number % per_epoch : number + 1]
        dead = [
            np.mean(np.all(np.concatenate([s[0][1][k] for s in since]) == 0, axis=0))
            for k in range(len(NAMES))
        ]
        np.testing.assert_allclose(row, dead)


def test_dead_units_are_counted_anew_in_each_epoch():
    model, logger = make_model(), GradientNormLogger(also="activations")
    model.compile(keras.optimizers.SGD(0.0), "mse")

    def switch(epoch, logs):
        model.layers[0].bias.assign(tf.fill([8], 100.0 if epoch == 1 else -100.0))

    callbacks = [logger, keras.callbacks.LambdaCallback(on_epoch_begin=switch)]
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=callbacks).history
    assert history["dead_units/relu"] == [1.0, 0.0, 1.0]


def test_delta_norms(record):
    expected = [[np.linalg.norm(delta) for delta in shown[2]] for shown, _, _ in STEPS]
    np.testing.assert_allclose(record["delta_norm"], expected, rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_every_layers_delta_is_0_behind_a_dead_one_and_dead_units_are_seen(jit_compile):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(
                4, "relu", bias_initializer=keras.initializers.Constant(-100.0), name="dead"
            ),
            keras.layers.Dense(2, name="head"),
        ]
    )
    logger = GradientNormLogger(also=("activations", "delta_norm"))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    history = model.fit(X, Y, verbose=0, callbacks=[logger]).history
    assert history["dead_units/dead"] == history["activation_zeros/dead"] == [1.0]
    assert history["gradient_norm/dead"] == [0.0]
    assert history["dead_units/head"] == [0.0]


def test_a_layer_in_a_loop_of_the_graph_has_no_outputs_to_see_and_training_goes_on():
    class Looping(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.head = (
                keras.layers.Dense(6, "tanh", name="inner"),
                keras.layers.Dense(2, name="head"),
            )

        def call(self, x):
            x = tf.while_loop(
                lambda i, x: i < 3,
                lambda i, x: (i + 1, self.inner(x)),
                (0, x),
                maximum_iterations=3,
            )[1]
            return self.head(x)

    model, logger = Looping(), GradientNormLogger(also=("activations", "delta_norm"))
    model(X)
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(X, Y, verbose=0, callbacks=[logger])
    assert np.isnan(logger.record["activation_mean"][:, 0]).all()
    assert np.isfinite(logger.record["activation_mean"][:, 1]).all()
    assert (logger.norms > 0).all()


def test_per_variable():
    model, logger = make_model(), GradientNormLogger(per="variable")
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[logger])
    assert logger.layer_names == [
        f"{layer}/{name}" for layer in WITH_WEIGHTS for name in ("kernel", "bias")
    ]
    np.testing.assert_allclose(
        logger.norms[0], [np.linalg.norm(gradient) for gradient in STEPS[0][0][0]], rtol=1e-5
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "cls", [quantities.GradientNorm, quantities.GradientNorm1, quantities.GradientNormInfinity]
)
def test_what_is_not_finite_stays_so(cls, bad):
    quantity = cls()
    measured = quantity.measure([tf.constant([1.0, bad]), tf.constant([2.0])])
    joined = quantity.finish(
        quantity.segment(measured, [0, 0], 1), tf.constant([[3.0]], tf.float64)
    )
    assert not np.isfinite(joined[0, 0])


def test_elements_that_are_not_finite_are_counted_apart():
    counts = quantities.GradientHistogram().measure(
        [tf.constant([0.0, np.nan, np.inf, -np.inf, 5.0, 1e-30, 1e30])]
    )[0]
    by_label = dict(zip(quantities.GradientHistogram.labels, counts.numpy(), strict=True))
    assert {label: count for label, count in by_label.items() if count} == {
        "0": 1,
        "<1e-12": 1,
        "1e0": 1,
        ">=1e3": 1,
        "not finite": 3,
    }


@pytest.mark.parametrize("name", functions.names())
def test_beyond_its_saturation_the_slope_of_every_function_is_small(name):
    function = functions.get(name)
    ends = saturation(function)
    x = np.linspace(-40, 40, 40_001)
    value, slope = (f(tf.constant(x)).numpy() for f in (function.value, function.slope))
    bounded = np.ptp(value) < 100 and function.increasing and slope.max() > 0
    if ends is None:
        flat = slope < 0.01 * slope.max()
        assert not bounded or not (flat[0] and flat[-1])
    else:
        beyond, between = (
            (value < ends[0]) | (value > ends[1]),
            (value > ends[0]) & (value < ends[1]),
        )
        assert (slope[beyond] < 0.011 * slope.max()).all()
        assert (slope[between] >= 0.0099 * slope.max()).all()


@pytest.mark.parametrize(
    ("layer", "ends"),
    [
        (keras.layers.Dense(1, activation="tanh"), -0.995),
        (keras.layers.Activation("sigmoid"), 0.0025),
        (layers.SurrogateActivation("tanh", "softsign"), -0.995),
        (keras.layers.Dense(1, activation=layers.SurrogateActivation("sigmoid")), 0.0025),
        (keras.layers.LSTM(1), -0.995),
        (keras.layers.Dense(1, activation="relu"), None),
        (keras.layers.ReLU(6), 0.0),
        (keras.layers.ReLU(max_value=1), 0.0),
        (keras.layers.ReLU(threshold=1.0), None),
        (keras.layers.Dense(1, activation=keras.layers.ReLU(6)), 0.0),
        (keras.layers.Dense(1), None),
        (keras.layers.Dense(1, activation=tf.sin), None),
        (keras.layers.Dropout(0.5), None),
    ],
)
def test_which_activation_of_a_layer_can_saturate(layer, ends):
    found = output_quantities.squashing_of(layer)
    assert found is None if ends is None else saturation(found)[0] == pytest.approx(ends, rel=0.01)


def test_the_zeros_of_a_rectifier_are_not_saturated():
    outputs = tf.constant([0.0, 0.0, 0.5, 1.0, 6.0])
    assert in_flat_ends(functions.get("relu6"), outputs).numpy().tolist() == [
        False,
        False,
        False,
        False,
        True,
    ]
    assert in_flat_ends(functions.get("sigmoid"), outputs - 0.001).numpy().tolist() == [
        True,
        True,
        False,
        True,
        True,
    ]


# Between the smallest and the largest in these steps; of the three norms, each makes another pattern.
CLIPPED = {"clipnorm": 2.0, "clipvalue": 0.5, "global_clipnorm": 2.0}


@edges(("setting", "scaled"), CLIPPED, [False, True])
def test_whether_clipping_acted(setting, scaled):
    threshold = CLIPPED[setting]
    logger, model = GradientNormLogger(per="variable", also="norm_inf"), make_model()
    optimizer = keras.optimizers.SGD(0.05, **{setting: threshold})
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer, "mse")
    model.fit(X, Y, batch_size=4, epochs=6, shuffle=False, verbose=0, callbacks=[logger])
    record = logger.record
    largest = {
        "clipnorm": record.norms.max(axis=1),
        "clipvalue": record["gradient_norm_inf"].max(axis=1),
        "global_clipnorm": record.global_norms,
    }[setting]
    acted = record.total("gradient_clipped")
    np.testing.assert_array_equal(acted, largest > threshold)
    assert 0 < acted.mean() < 1


def test_with_gradient_accumulation_it_is_not_known_whether_clipping_acted():
    logger, model = GradientNormLogger(), make_model()
    model.compile(keras.optimizers.SGD(0.05, clipnorm=0.1, gradient_accumulation_steps=2), "mse")
    model.fit(X, Y, verbose=0, callbacks=[logger])
    assert np.isnan(logger.record.total("gradient_clipped")).all()


def test_no_columns_for_clipping_without_clipping(record):
    assert not any("clipped" in column for column in record.columns)


def test_layers_that_only_rearrange_have_no_units_to_die():
    inputs = keras.Input((2, 3))
    rearranged = keras.layers.Dropout(0.1)(keras.layers.Flatten()(inputs))
    outputs = keras.layers.Dense(1, name="head")(
        keras.layers.ReLU()(keras.layers.Dense(4)(rearranged))
    )
    model, logger = keras.Model(inputs, outputs), GradientNormLogger(also="activations")
    model.compile("sgd", "mse")
    model.fit(np.zeros((4, 2, 3)), np.zeros(4), verbose=0, callbacks=[logger])
    assert logger.record.names("dead_units") == ("dense", "re_lu", "head")


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("vocabulary", [5, 1000])
def test_sparse_gradients_are_measured_as_dense_ones(vocabulary, jit_compile):
    """Repeated rows, more of them than embeddings and fewer, and rows that cancel each other."""
    generator = np.random.default_rng(3)
    indices = np.append(generator.integers(0, 5, 40), [3, 3])
    values = generator.normal(size=(42, 4)).astype("float32")
    values[-1] = -values[-2]

    @tf.function(jit_compile=jit_compile)
    def rows(values, indices):
        shape = tf.constant([vocabulary, 4])
        return norms.nonzero_rows(tf.IndexedSlices(values, indices, shape))

    got = rows(tf.constant(values), tf.constant(indices)).numpy()
    dense = np.zeros((vocabulary, 4), "float32")
    np.add.at(dense, indices, values)
    touched = dense[np.unique(indices)]
    np.testing.assert_allclose(got[: len(touched)], touched, atol=1e-5)
    assert not got[len(touched) :].any() and len(got) == len(indices)


def test_every_quantity_of_an_embedding_is_that_of_its_dense_gradient():
    ids, targets = RANDOM.integers(0, 6, (40, 7)), RANDOM.normal(size=(40, 1)).astype("float32")
    records_by_kind = []
    for sparse in (True, False):
        keras.utils.set_random_seed(1)
        embedding = keras.layers.Embedding(50, 3) if sparse else DenseEmbedding(50, 3)
        model = keras.Sequential(
            [
                keras.Input((7,), dtype="int32"),
                embedding,
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse")
        logger = GradientNormLogger(also=("norm_1", "norm_inf", "mean_absolute", "histogram"))
        model.fit(ids, targets, batch_size=10, shuffle=False, verbose=0, callbacks=[logger])
        records_by_kind.append(logger.record)
    sparse, dense = records_by_kind
    np.testing.assert_allclose(sparse.values, dense.values, rtol=1e-5)
    assert sparse.histograms()["global"].sum(axis=1) == pytest.approx(50 * 3 + 21 + 1)


class DenseEmbedding(keras.layers.Embedding):
    """The same layer, whose gradient is dense."""

    def call(self, inputs):
        return tf.one_hot(inputs, self.input_dim) @ tf.convert_to_tensor(self.embeddings)


@pytest.mark.parametrize("kind", ["raw", "applied"])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_clipping_by_the_norm_of_the_rows_of_a_sparse_gradient(kind, share):
    """Keras does not add up equal rows before it computes their norm."""
    x = np.random.default_rng(0).integers(0, 3, (16, 3))
    y = np.random.default_rng(1).normal(size=(16, 1)).astype("float32")

    def fitted(threshold):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((3,), dtype="int32"),
                keras.layers.Embedding(10, 4),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        start = model.get_weights()
        model.compile(keras.optimizers.SGD(1.0, global_clipnorm=threshold), "mse")
        logger = GradientNormLogger(kind=kind)
        model.fit(x, y, batch_size=16, verbose=0, callbacks=[logger])
        change = [one - two for one, two in zip(start, model.get_weights(), strict=True)]
        return logger.record, change, (model, start)

    record, unclipped, (model, start) = fitted(None)
    model.set_weights(start)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True))
    rows = float(tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables)))
    joined = float(record.global_norms[0])
    assert rows > joined * 1.01
    threshold = joined + share * (rows - joined)
    record, clipped, _ = fitted(threshold)
    np.testing.assert_allclose(clipped[0], unclipped[0] * threshold / rows, rtol=1e-4, atol=1e-7)
    assert record.total("gradient_clipped") == 1
    record, same, _ = fitted(rows * 1.01)
    np.testing.assert_allclose(same[0], unclipped[0], rtol=1e-4, atol=1e-7)
    assert record.total("gradient_clipped") == 0


class Scalar(keras.layers.Layer):
    """A layer that returns a loss."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        value = tf.reduce_mean(tf.square(x * self.scale))
        self.add_loss(value)
        return value


class Sparse(keras.layers.Layer):
    def call(self, x):
        return tf.sparse.from_dense(tf.nn.relu(x))


class Beside(keras.Model):
    """A layer whose output the others do not use, or use as a sparse tensor."""

    def __init__(self, layer):
        super().__init__()
        self.first = keras.layers.Dense(3)
        self.layer = layer
        self.last = keras.layers.Dense(2)

    def call(self, x):
        hidden = self.first(x)
        output = self.layer(hidden)
        return self.last(output if isinstance(self.layer, Sparse) else hidden)


@pytest.mark.parametrize("also", ["activations", "effective_rank", "dormant", "delta_norm"])
@pytest.mark.parametrize("layer", [Scalar, Sparse])
def test_scalar_and_sparse_outputs_are_not_measured(layer, also):
    keras.utils.set_random_seed(0)
    model = Beside(layer(name="odd"))
    model.compile("sgd", "mse")
    logger = GradientNormLogger(also=also)
    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[logger])
    assert np.isfinite(logger.global_norms).all()
    odd = [
        logger.record.values[:, place]
        for place, column in enumerate(logger.record.columns)
        if column.endswith("/odd") and not column.startswith(("gradient", "activation", "delta"))
    ]
    assert all(np.isnan(one).all() for one in odd)

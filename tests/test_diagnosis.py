"""The numbers of a diagnosis, each against a second opinion; and that the model stays as it was."""

import io
import json

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from products import edges
from rich.console import Console

import keras_surrogate as ks
from keras_surrogate import diagnosis, plots
from keras_surrogate.diagnosis import measuring

L = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batch(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def mlp(activation="relu", depth=3, optimizer="sgd", loss=LOSS):
    hidden = [
        L.Dense(16, activation, kernel_initializer="he_normal", name=f"hidden_{number}")
        for number in range(1, depth + 1)
    ]
    model = keras.Sequential([keras.Input((8,)), *hidden, L.Dense(5, name="output")])
    if optimizer:
        model.compile(optimizer, loss)
    return model


def with_constraint(optimizer):
    model = mlp(optimizer=None)
    model.get_layer("hidden_1").kernel.constraint = keras.constraints.MaxNorm(0.1)
    model.compile(optimizer, LOSS)
    return model


def rows(result):
    return {row.layer: row for row in result.rows}


def targets(examples, classes=5):
    return np.arange(examples) % classes


def test_gradients_are_those_of_a_plain_tape_on_the_loss():
    model, x, y = mlp("tanh"), batch(32, 8), targets(32)
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    expected = tape.gradient(loss, model.trainable_variables)
    result = rows(diagnosis.diagnose(model, x, y))
    norms = [
        np.sqrt(sum(np.sum(np.square(part)) for part in expected[at : at + 2]))
        for at in range(0, 8, 2)
    ]
    np.testing.assert_allclose([row.gradient_norm for row in result.values()], norms, rtol=1e-5)
    np.testing.assert_allclose(
        [row.gradient_ratio for row in result.values()], norms / norms[-1], rtol=1e-5
    )


def test_without_targets_each_example_gets_a_random_gradient_of_norm_1():
    x, model = batch(32, 8), mlp(optimizer=None)
    result = diagnosis.diagnose(model, x)
    assert result.rows[-1].delta_norm == pytest.approx(1 / np.sqrt(32), rel=1e-5)
    assert diagnosis.diagnose(model, x).rows == result.rows
    assert diagnosis.diagnose(model, x, seed=1).rows != result.rows
    assert all(row.update_ratio is None for row in result.rows)


def test_signal_and_the_gradients_that_reach_it():
    model, x, y = mlp("tanh", depth=2), batch(32, 8), targets(32)
    hidden = model.get_layer("hidden_1")(x)
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        loss = LOSS(y, model.get_layer("output")(model.get_layer("hidden_2")(hidden)))
    row = rows(diagnosis.diagnose(model, x, y))["hidden_1"]
    assert row.signal_mean == pytest.approx(np.mean(hidden), abs=1e-6)
    assert row.signal_variance == pytest.approx(np.var(hidden), rel=1e-5)
    assert row.zero_centredness == pytest.approx(
        abs(np.mean(hidden)) / np.sqrt(np.mean(np.square(hidden))), rel=1e-4
    )
    assert row.delta_norm == pytest.approx(np.linalg.norm(tape.gradient(loss, hidden)), rel=1e-5)
    assert row.input_power == pytest.approx(np.mean(np.square(x)), rel=1e-5)
    kernel = model.get_layer("hidden_1").kernel.numpy()
    assert row.weight_variance == pytest.approx(8 * np.mean(np.square(kernel)), rel=1e-5)


def test_effective_rank_and_spread_are_those_of_numpy():
    x = batch(20, 6, 5)
    values = np.linalg.svd(x.reshape(20, 30).astype(float), compute_uv=False)
    shares = values / values.sum()
    rank, spread = measuring.effective_rank_and_spread(tf.constant(x))
    assert rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-6)
    assert spread == pytest.approx(np.mean(np.var(x, axis=0)) / np.mean(np.square(x)), rel=1e-5)


@pytest.mark.parametrize(
    ("matrix", "rank", "spread"),
    [
        (np.eye(4), 4, 0.75),
        (np.ones((4, 3)), 1, 0),
        (np.outer([1, -1, 2, -2], [3, 4]), 1, 1),
        (1e30 * np.eye(4), 4, 0.75),
        (1e-30 * np.eye(4), 4, 0.75),
        (np.zeros((4, 3)), None, None),
        (np.ones((1, 3)), None, None),
        (np.full((4, 3), np.nan), None, None),
    ],
)
def test_effective_rank_and_spread_of_known_matrices(matrix, rank, spread):
    found = measuring.effective_rank_and_spread(tf.constant(matrix, tf.float32))
    assert found == ((None, None) if rank is None else pytest.approx((rank, spread), abs=1e-5))


def test_of_many_columns_some_are_enough():
    random = np.random.default_rng(0)
    # Pictures whose pixels resemble their neighbours, with channels of different means.
    means = np.linspace(-2, 2, 6)
    x = means + random.normal(size=(20, 16, 16, 6)).repeat(8, axis=1).repeat(8, axis=2)
    every = x.reshape(20, -1)
    assert every.shape[1] > 4 * measuring._COLUMNS
    values = np.linalg.svd(every, compute_uv=False)
    shares = values / values.sum()
    rank, spread = measuring.effective_rank_and_spread(tf.constant(x, tf.float32))
    assert rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=0.01)
    assert spread == pytest.approx(np.mean(np.var(every, axis=0)) / np.mean(every**2), rel=0.01)


@pytest.mark.parametrize(("columns", "channels"), [(10, 3), (100_000, 64), (3 * 2**18, 6)])
def test_the_columns_that_are_used_are_equally_many_of_each_channel(columns, channels):
    used = np.arange(0, columns, measuring._stride(columns, channels)) % channels
    counts = np.bincount(used, minlength=channels)
    assert counts.max() - counts.min() <= 1
    assert len(used) >= min(columns, measuring._COLUMNS // 2)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_mean_and_variance_at_any_scale(scale):
    x = 1 + batch(50, 4)
    mean, variance = measuring.mean_and_variance(tf.constant(x * np.float32(scale)))
    assert mean == pytest.approx(scale * float(np.mean(x)), rel=1e-4)
    assert variance == pytest.approx(scale**2 * float(np.var(x)), rel=1e-4)


def test_dead_and_saturated_units_are_counted():
    outputs = np.array([[0, 0, 1, 2], [0, 3, 0, 1]], "float32")
    assert measuring.dead_units(tf.constant(outputs)) == 0.25
    assert (
        measuring.dead_units(tf.constant(outputs.T[np.newaxis].repeat(2, 0)), channels_first=True)
        == 0.25
    )
    assert measuring.dead_units(tf.constant(outputs[:1])) is None
    tanh, relu6 = ks.functions.get("tanh"), ks.functions.get("relu6")
    assert measuring.saturated(tf.constant([-0.999, 0.0, 0.9, 0.9999]), tanh) == 0.5
    assert measuring.saturated(tf.constant([0.0, 3.0, 6.0, 0.0]), relu6) == 0.25


def test_sign_agreement():
    gradient = tf.constant([[1.0, 1.0, 0.0], [2.0, -1.0, 0.0], [3.0, -1.0, 0.0], [4.0, 0.0, 0.0]])
    assert measuring.sign_agreement(gradient) == pytest.approx((1 + 2 / 3) / 2)
    assert measuring.sign_agreement(tf.zeros((3, 2))) is None


@pytest.mark.parametrize(
    ("pair", "expected"),
    [("sugar_bsilu", None), (ks.Surrogate("tanh", scale=3), 1), ("gradient_reversal", -1)],
)
def test_cosine_is_that_of_numpy(pair, expected):
    model, x, y = mlp(ks.get(pair), depth=1), batch(32, 8), targets(32)

    def gradient():
        with tf.GradientTape() as tape:
            loss = LOSS(y, model(x, training=True))
        parts = tape.gradient(loss, model.get_layer("hidden_1").trainable_variables)
        return np.concatenate([np.ravel(part) for part in parts]).astype(float)

    with ks.true_gradients(model):
        true = gradient()
    own = gradient()
    cosine = own @ true / np.linalg.norm(own) / np.linalg.norm(true)
    found = rows(diagnosis.diagnose(model, x, y))
    assert found["hidden_1"].cosine == pytest.approx(cosine, abs=1e-5)
    assert found["output"].cosine == pytest.approx(1, abs=1e-6)
    assert cosine == pytest.approx(expected, abs=1e-5) if expected else 0.3 < cosine < 0.99


class Counting(L.Layer):
    """The identity, which counts its calls."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


@pytest.mark.parametrize(
    ("layer", "passes"),
    [
        (lambda: L.Dense(4, "relu"), 1),
        (lambda: L.Dense(4, ks.get("leaky_backward")), 2),
        (lambda: ks.layers.SurrogateWeights(L.Dense(4), "ste_sign"), 2),
        (lambda: ks.layers.GradientReversal(), 2),
        (lambda: keras.Sequential([ks.layers.ConstantCurrent(3), ks.layers.LIF()]), 2),
    ],
)
def test_a_second_pass_is_made_only_for_surrogates(layer, passes):
    counting = Counting()
    model = keras.Sequential([keras.Input((8,)), L.Dense(6), counting, layer(), L.Dense(2)])
    before = counting.calls
    found = diagnosis.diagnose(model, batch(32, 8))
    assert counting.calls == before + passes
    assert found.rows[-1].cosine == pytest.approx(1)


@pytest.mark.parametrize(("scale", "other_scale"), [(1, 1), (1e-25, 1e-12), (1e30, 1e25)])
def test_cosine_at_any_scale(scale, other_scale):
    one = batch(50, 4) * np.float32(scale)
    other = batch(50, 4, seed=1) * np.float32(other_scale)
    lengths = [float(np.linalg.norm(part.astype(float))) for part in (one, other)]
    expected = np.vdot(one.astype(float), other.astype(float)) / np.prod(lengths)
    found = measuring.cosine([tf.constant(one)], [tf.constant(other)], *lengths)
    assert found == pytest.approx(expected, rel=1e-5)
    assert measuring.cosine([tf.constant(one)], [tf.zeros((50, 4))], lengths[0], 0.0) is None


def test_where_there_is_no_true_gradient_there_is_no_cosine():
    found = rows(diagnosis.diagnose(mlp(ks.get("superspike")), batch(32, 8)))
    assert found["hidden_1"].cosine is None
    assert found["hidden_1"].gradient_norm > 0


class Slower(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that is not registered."""

    def __call__(self, step):
        return 0.1 / (1 + tf.cast(step, "float32"))

    def get_config(self):
        return {}


def test_update_ratio_with_accumulation_has_the_state_of_the_optimizer():
    """After two updates of two batches each the schedule's rate is a quarter of the first."""
    x, y = batch(32, 8), targets(32)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    model = with_constraint(keras.optimizers.SGD(schedule, gradient_accumulation_steps=2))
    for _ in range(4):
        model.train_on_batch(x, y)
    plain = with_constraint(keras.optimizers.SGD(0.025))
    plain.set_weights(model.get_weights())
    expected = [row.update_ratio for row in rows(diagnosis.diagnose(plain, x, y)).values()]
    found = [row.update_ratio for row in rows(diagnosis.diagnose(model, x, y)).values()]
    np.testing.assert_allclose(found, expected, 1e-5)


@edges(
    ("optimizer", "steps"),
    [
        lambda: keras.optimizers.SGD(0.5, momentum=0.9, clipnorm=0.01),
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)),
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
        lambda: keras.optimizers.SGD(0.1, loss_scale_factor=1024.0),
        lambda: keras.optimizers.SGD(Slower()),
    ],
    [3, 0],
)
def test_update_ratio_is_that_of_the_next_real_step(optimizer, steps):
    model, x, y = with_constraint(optimizer()), batch(32, 8), targets(32)
    for _ in range(steps):
        model.train_on_batch(x, y)
    found = rows(diagnosis.diagnose(model, x, y))
    before = [weight.numpy() for weight in model.trainable_variables]
    model.train_on_batch(x, y)
    change = [
        weight.numpy() - old for weight, old in zip(model.trainable_variables, before, strict=True)
    ]
    ratios = [
        np.linalg.norm([*map(np.linalg.norm, change[at : at + 2])])
        / np.linalg.norm([*map(np.linalg.norm, before[at : at + 2])])
        for at in range(0, 8, 2)
    ]
    assert ratios[0] > 0
    np.testing.assert_allclose([row.update_ratio for row in found.values()], ratios, rtol=1e-4)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = L.Dense(5, name="last")
        self.first = L.Dense(8, "relu", name="first")
        self.own = self.add_weight(shape=(5,), name="own")

    def call(self, x, training=False):
        return self.last(self.first(x)) + self.own


def everything():
    """A functional model with much that a pass changes: moving statistics, dropout seeds, nesting, a shared layer."""
    inner = keras.Sequential(
        [L.Dense(8, ks.get("sugar_bsilu"), name="dense"), L.Dropout(0.5)], name="inner"
    )
    first, second, shared = keras.Input((4,)), keras.Input((4,)), L.Dense(8, "tanh", name="shared")
    joined = L.Concatenate(name="concatenate")([shared(first), shared(second)])
    x = ks.layers.RReLU()(L.BatchNormalization(name="normalization")(joined))
    model = keras.Model([first, second], L.Dense(5, name="output")(L.GaussianNoise(0.1)(inner(x))))
    model.compile(keras.optimizers.Adam(), LOSS, metrics=["accuracy"])
    return model, [batch(32, 4), batch(32, 4, seed=1)]


def state(model):
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    return [variable.numpy().tobytes() for variable in variables]


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("with_loss", [False, True])
def test_the_model_is_left_as_it_was_to_the_bit(fitted, with_loss):
    model, x = everything()
    if fitted:
        model.fit(x, targets(32), verbose=0)
    before, function, attributes = (
        state(model),
        model.train_function,
        [dict(vars(layer)) for layer in model.layers],
    )
    diagnosis.diagnose(model, x, targets(32) if with_loss else None)
    assert state(model) == before
    assert model.train_function is function
    assert all("call" not in vars(layer) for layer in model.layers)
    assert [list(vars(layer)) for layer in model.layers] == [list(each) for each in attributes]
    # And what moves in training does move.
    model(x, training=True)
    assert state(model) != before


def test_training_goes_on_as_if_nothing_had_been():
    losses = []
    for diagnosed in (False, True):
        keras.utils.set_random_seed(3)
        model, x = everything()
        model.fit(x, targets(32), verbose=0)
        if diagnosed:
            diagnosis.diagnose(model, x, targets(32))
        losses.append(model.fit(x, targets(32), epochs=2, verbose=0).history["loss"])
    assert losses[0] == losses[1]


def test_the_model_is_left_as_it_was_when_the_loss_fails():
    model, x = everything()
    before = state(model)
    with pytest.raises(ValueError, match="compiled loss"):
        diagnosis.diagnose(model, x, np.zeros((32, 3, 2)))
    assert state(model) == before
    assert all("call" not in vars(layer) for layer in model.layers)


def test_layers_stand_in_the_order_of_their_calls_under_their_paths():
    model, x = everything()
    names = list(rows(diagnosis.diagnose(model, x)))
    assert [name for name in names if "_" not in name] == [
        "shared",
        "concatenate",
        "normalization",
        "inner/dense",
        "inner/dropout",
        "output",
    ]
    result = diagnosis.diagnose(Subclassed(), batch(32, 4))
    assert [row.layer for row in result.rows][:2] == ["first", "last"]
    assert result.rows[2].gradient_norm == pytest.approx(result.rows[1].delta_norm, rel=2)
    assert result.rows[1].gradient_ratio == 1


class Block(L.Layer):
    """A residual block as people write them: layers within a layer, and a weight of its own."""

    def __init__(self, between=tf.nn.relu, **kwargs):
        super().__init__(**kwargs)
        self.dense = L.Dense(8, name="dense")
        self.out = L.Dense(8, name="out")
        self.between = between

    def build(self, shape):
        self.scale = self.add_weight(shape=(8,), initializer="ones", name="scale")

    def call(self, x):
        return x + self.scale * self.out(self.between(self.dense(x)))


def blocks(between=tf.nn.relu):
    layers = [L.Dense(8, name="first"), Block(between, name="block"), L.Dense(5, name="output")]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile("sgd", LOSS)
    return model


def joined(result, block):
    """The norm over the rows of a block and of the layers in it."""
    inner = [row for row in result.rows if row.layer == block or row.layer.startswith(f"{block}/")]
    return np.linalg.norm([row.gradient_norm for row in inner if row.gradient_norm is not None])


def test_depth_gives_rows_to_layers_within_layers():
    model, x, y = blocks(), batch(32, 8), targets(32)
    shallow = diagnosis.diagnose(model, x, y)
    deep = diagnosis.diagnose(model, x, y, depth=np.int64(2))
    assert list(rows(shallow)) == ["first", "block", "output"]
    assert list(rows(deep)) == ["first", "block/dense", "block/out", "block", "output"]
    assert joined(deep, "block") == pytest.approx(rows(shallow)["block"].gradient_norm, rel=1e-5)

    own, inner = rows(deep)["block"], rows(deep)["block/dense"]
    assert not own.has_kernel and own.gradient_norm < inner.gradient_norm
    assert rows(shallow)["block"].is_opaque and not own.is_opaque
    assert inner.is_first is False and inner.reads == ("first",)
    assert rows(deep)["output"].reads == ("block",)
    for name in ("first", "output"):
        assert rows(deep)[name].gradient_norm == rows(shallow)[name].gradient_norm
    assert shallow.findings == deep.findings == ()


@pytest.mark.parametrize("depth", [0, True, 1.0])
def test_depth_is_an_integer(depth):
    with pytest.raises(ValueError, match="diagnose: depth must be an integer of at least 1"):
        diagnosis.diagnose(mlp(), batch(32, 8), depth=depth)


def test_at_depth_2_the_place_within_a_block_is_named_where_the_gradient_ends():
    result = diagnosis.diagnose(blocks(tf.stop_gradient), batch(32, 8), targets(32), depth=2)
    (finding,) = result.findings
    assert (finding.kind, finding.layers) == ("stopped_gradient", ("block/dense",))
    assert "between block/dense and block/out" in finding.message


@pytest.mark.parametrize("cut", [tf.stop_gradient, lambda x: tf.sign(x)])
def test_at_depth_2_a_block_that_ends_the_gradient_of_its_last_layer_is_named(cut):
    class Last(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = L.Dense(8, name="dense")

        def call(self, x):
            return cut(self.dense(x))

    model = keras.Sequential([keras.Input((8,)), Last(name="last"), L.Dense(5, name="output")])
    model.compile("sgd", LOSS)
    (finding,) = diagnosis.diagnose(model, batch(32, 8), targets(32), depth=2).findings
    assert finding.kind == ("stopped_gradient" if cut is tf.stop_gradient else "zero_gradient")
    assert "at last" in finding.message and "block" not in finding.message


def test_depth_in_a_transformer_of_keras_hub():
    hub = pytest.importorskip("keras_hub")
    backbone = hub.models.ViTBackbone(
        image_shape=(8, 8, 3), patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16
    )
    outputs = L.Dense(5)(L.GlobalAveragePooling1D()(backbone.output))
    model = keras.Model(backbone.input, outputs)
    model.compile("adam", LOSS)
    x, y = batch(8, 8, 8, 3), targets(8)
    shallow = diagnosis.diagnose(model, x, y)
    deep = diagnosis.diagnose(model, x, y, depth=3)
    assert len(deep.rows) > len(shallow.rows)
    for row in shallow.rows:
        if row.gradient_norm is not None:
            assert joined(deep, row.layer) == pytest.approx(row.gradient_norm, rel=1e-4)


def test_an_unbuilt_model_is_built():
    model = keras.Sequential([L.Dense(4, "relu"), L.Dense(2)])
    assert len(diagnosis.diagnose(model, batch(32, 4)).rows) == 2


def test_dictionaries_integers_sequences_and_attention():
    words = keras.Input((7,), dtype="int32", name="words")
    x = L.Bidirectional(L.GRU(8, return_sequences=True))(L.Embedding(20, 8)(words))
    x = L.GlobalAveragePooling1D()(
        L.Add()([x, L.MultiHeadAttention(2, 8)(x, x)]) if x.shape[-1] == 16 else x
    )
    model = keras.Model({"words": words}, {"a": L.Dense(3)(x), "b": L.Dense(2)(x)})
    numbers = np.random.default_rng(0).integers(0, 20, (32, 7))
    result = diagnosis.diagnose(model, {"words": numbers})
    assert result.findings == ()
    assert all(row.gradient_norm > 0 for row in result.rows if row.has_kernel)
    assert result.batch.mean is None and result.batch.spread is None and result.batch.others_differ


@pytest.mark.parametrize("loss_scaling", [False, True])
def test_half_precision(loss_scaling):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        optimizer = keras.optimizers.SGD(0.1)
        model = mlp(
            optimizer=keras.optimizers.LossScaleOptimizer(optimizer) if loss_scaling else optimizer
        )
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x, y = batch(32, 8), targets(32)
    full = mlp()
    full.set_weights(model.get_weights())
    for half, single in zip(
        diagnosis.diagnose(model, x, y).rows, diagnosis.diagnose(full, x, y).rows, strict=True
    ):
        assert half.gradient_norm == pytest.approx(single.gradient_norm, rel=0.02)
        assert half.signal_variance == pytest.approx(single.signal_variance, rel=0.02)


def test_costs_one_pass_and_another_forward_where_the_model_is_not_built(monkeypatch):
    calls, backward = [], []
    gradient = tf.GradientTape.gradient
    monkeypatch.setattr(
        tf.GradientTape, "gradient", lambda *args, **kw: backward.append(1) or gradient(*args, **kw)
    )

    class Counting(L.Layer):
        def call(self, x):
            calls.append(tf.executing_eagerly())
            return 2.0 * x

    model = keras.Sequential([Counting(), L.Dense(3)])
    diagnosis.diagnose(model, batch(32, 4))
    assert calls.count(True) == 2 and len(backward) == 1
    diagnosis.diagnose(model, batch(32, 4))
    assert calls.count(True) == 3 and len(backward) == 2


@pytest.mark.parametrize(
    ("model", "x", "y", "message"),
    [
        (
            mlp,
            batch(32, 5),
            None,
            r"whose input shape is \(None, 8\), cannot be called on x of shape \(32, 5\)",
        ),
        (mlp, batch(0, 8), None, r"x is empty: its shape is \(0, 8\)"),
        (mlp, 3.0, None, "must have one number of examples"),
        (mlp, None, None, "x must be an array of numbers"),
        (mlp, np.full((4, 8), np.nan), None, "x holds 32 numbers that are NaN or infinite"),
        (mlp, batch(32, 8), targets(31), "x has 32 examples, but y has 31"),
        (
            mlp,
            batch(32, 8),
            np.zeros((32, 3, 2)),
            "the compiled loss cannot be computed from y of shape",
        ),
        (lambda: mlp(optimizer=None), batch(32, 8), targets(32), "no compiled loss"),
        (lambda: mlp(loss=None), batch(32, 8), targets(32), "no compiled loss"),
        (
            lambda: keras.Sequential([keras.Input((8,)), L.ReLU()]),
            batch(32, 8),
            None,
            "no trainable weights",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((8,)), L.Dense(3), L.Lambda(lambda x: tf.argmax(x, -1))]
            ),
            batch(32, 8),
            None,
            "no output of floating numbers",
        ),
    ],
)
def test_mistakes_are_explained(model, x, y, message):
    with pytest.raises(ValueError, match=message):
        diagnosis.diagnose(model(), x, y)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="must be a Keras model, but is <Dense"):
        diagnosis.diagnose(L.Dense(3), batch(4, 4))


def test_an_optimizer_that_cannot_be_copied_is_named():
    class Mine(keras.optimizers.SGD):
        def __init__(self, needed):
            super().__init__(0.1)

    with pytest.raises(ValueError, match="Mine cannot be created"):
        diagnosis.diagnose(mlp(optimizer=Mine(1)), batch(32, 8))


def printed(result, width, **options):
    console = Console(width=width, record=True, file=io.StringIO())
    result.print(console, **options)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 140])
def test_print_shows_every_layer_and_number_without_cutting_any(width):
    result = diagnosis.diagnose(mlp("sigmoid", depth=12), batch(32, 8))
    text = printed(result, width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert text.count("hidden_3 ") >= (2 if width == 80 else 1)
    assert "cannot learn" in text
    assert f"{result.rows[0].gradient_norm:.2g}".replace("e-0", "e-") in text


def test_print_leaves_out_middle_layers_but_not_those_with_a_finding():
    model = mlp(depth=20)
    model.get_layer("hidden_11").bias.assign([-100.0] * 16)
    text = printed(diagnosis.diagnose(model, batch(32, 8)), 140, rows=6)
    assert "7 of 21 layers" in text
    assert "hidden_11 " in text and "hidden_8 " not in text


def test_one_example_says_what_cannot_be_said():
    result = diagnosis.diagnose(mlp(), batch(1, 8))
    assert result.findings == ()
    assert result.rows[0].dead_units is None and result.rows[0].effective_rank is None
    assert "with one example" in printed(result, 80)


def test_to_dict_is_json_with_everything_in_it():
    model = mlp()
    model.get_layer("hidden_2").bias.assign([np.nan] * 16)
    result = diagnosis.diagnose(model, batch(32, 8))
    read = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert read["findings"][0]["kind"] == "nonfinite_weights"
    assert [row["layer"] for row in read["rows"]] == [row.layer for row in result.rows]
    assert read["rows"][1]["signal_mean"] == "nan"
    assert read["batch"]["size"] == 32


def test_the_picture_shows_the_numbers_and_a_band_for_each_layer_of_a_finding():
    result = diagnosis.diagnose(mlp("sigmoid", depth=12), batch(32, 8))
    (finding,) = result.findings
    ax = plots.diagnosis(result)
    lines = {line.get_label(): line for line in ax.lines}
    norms = lines["gradient norm of the weights"].get_ydata()
    np.testing.assert_array_equal(norms, [row.gradient_norm for row in result.rows])
    assert len(ax.patches) == len(finding.layers) > 1
    assert "collapsed signal" in [text.get_text() for text in ax.get_legend().get_texts()]
    other = plt.subplots()[1]
    assert plots.diagnosis(result, other) is other
    plt.close("all")


def test_the_picture_of_numbers_that_are_none():
    model = mlp()
    model.get_layer("hidden_1").bias.assign([np.nan] * 16)
    plots.diagnosis(diagnosis.diagnose(model, batch(32, 8)))
    plt.close("all")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return batch(32, 8, seed=index), targets(32)


def endless():
    while True:
        yield batch(32, 8), targets(32)


@pytest.mark.parametrize(
    "source",
    [
        lambda: tf.data.Dataset.from_tensor_slices((batch(64, 8)[:32], targets(32))).batch(32),
        lambda: (
            tf.data.Dataset.from_tensor_slices((batch(32, 8), targets(32), np.full(32, 9.0)))
            .batch(32)
            .repeat()
        ),
        Batches,
        endless,
        lambda: iter([(batch(32, 8), targets(32), np.full(32, 9.0))]),
    ],
)
def test_batches_come_from_a_source_and_the_first_is_taken(source):
    keras.utils.set_random_seed(0)
    model = mlp()
    given = diagnosis.diagnose(model, source())
    assert given.batch.size == 32 and given.has_loss
    x = next(iter(source()))[0] if source is not Batches else batch(32, 8)
    assert given.rows == diagnosis.diagnose(model, np.asarray(x), targets(32)).rows


def test_a_source_of_inputs_alone_or_a_model_without_a_loss_gets_random_gradients():
    inputs = tf.data.Dataset.from_tensor_slices(batch(32, 8)).batch(32)
    assert not diagnosis.diagnose(mlp(), inputs).has_loss
    assert not diagnosis.diagnose(mlp(optimizer=None), Batches()).has_loss


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            lambda: tf.data.Dataset.from_tensor_slices((batch(32, 8), targets(32))),
            None,
            r"shape \(8,\), .*batch\(64\)",
        ),
        (
            lambda: iter([(batch(8, 8), targets(5))]),
            None,
            r"8 examples, but y has 5\. Data sets must be batched",
        ),
        (lambda: iter([]), None, "gives no batch"),
        (Batches, targets(32), "y must be left out"),
        (
            lambda: tf.data.Dataset.from_tensors((batch(32, 5), targets(32))),
            None,
            "cannot be called on x of shape",
        ),
    ],
)
def test_mistakes_about_sources_are_explained(x, y, message):
    with pytest.raises(ValueError, match=message):
        diagnosis.diagnose(mlp(), x(), y)


def test_what_is_neither_arrays_nor_a_source_is_refused():
    with pytest.raises(TypeError, match=r"tf\.data\.Dataset"):
        diagnosis.diagnose(mlp(), object())


def test_every_result_says_briefly_what_it_is():
    result = diagnosis.diagnose(mlp("sigmoid", depth=12), batch(32, 8))
    lines = repr(result).splitlines()
    assert lines[0].endswith("32 examples, 13 layers; print() shows all")
    assert lines[1].startswith("  cannot learn: collapsed_signal at hidden_") and len(lines) == 2
    assert repr(result.findings[0]).startswith("Finding(collapsed_signal at hidden_")
    assert repr(result.rows[0]).startswith("Row(hidden_1, Dense, variance ")
    assert repr(result.batch).startswith("Batch(32 examples, mean ")
    assert all(len(repr(item)) < 120 for item in (*result.rows, *result.findings, result.batch))
    assert "nothing found" in repr(diagnosis.diagnose(mlp(), batch(32, 8)))


def test_a_notebook_shows_a_table_with_names_escaped():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4, name="a<b"), L.Dense(3)])
    html = diagnosis.diagnose(model, batch(32, 8))._repr_html_()
    assert html.startswith("<pre") and "a&lt;b" in html and "a<b" not in html
    assert "variance" in html and "No known fault" in html


def test_the_legend_explains_every_column_that_is_shown():
    result = diagnosis.diagnose(mlp(), batch(32, 8), targets(32))
    text = printed(result, 140)
    header = text.splitlines()[1]
    assert (
        set(result.legend) == {title for title in result.legend if title in header}
        and "update" in result.legend
    )
    assert "saturated" not in result.legend and "saturated" not in header
    for title, words in result.legend.items():
        assert f"{title}: {words}" in text and len(words) < 90


def test_random_gradients_are_said_to_be_random():
    random, real = (
        printed(diagnosis.diagnose(mlp(), batch(32, 8), y), 140) for y in (None, targets(32))
    )
    assert "absolute sizes are not" in random and "SGD" in random
    assert "absolute sizes" not in real


def with_a_norm_of_its_kernel():
    return [
        keras.Input((5, 3)),
        keras.layers.SpectralNormalization(keras.layers.Dense(4)),
        keras.layers.GlobalAveragePooling1D(),
    ]


def with_a_state():
    return [keras.Input(batch_shape=(4, 5, 3)), keras.layers.LSTM(4, stateful=True)]


@pytest.mark.parametrize("measure", ["diagnose", "alignment", "first_order"])
@pytest.mark.parametrize("first", [with_a_norm_of_its_kernel, with_a_state])
def test_weights_and_states_that_a_call_changes_are_restored(first, measure):
    keras.utils.set_random_seed(0)
    surrogate = ks.Surrogate("tanh", scale=1 + 1e-6)
    model = keras.Sequential([*first(), keras.layers.Dense(3, surrogate), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 5, 3)).astype("float32")
    y = random.normal(size=(4, 1)).astype("float32")
    model(x)
    held = [*model.variables, *keras.tree.flatten(getattr(model.layers[0], "states", []))]
    before = [variable.numpy() for variable in held]
    result = getattr(diagnosis, measure)(model, x, y)
    for variable, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    # Both numbers are of the same weights and states.
    if measure == "alignment":
        assert min(result.cosines.values()) == pytest.approx(1, abs=1e-6)
    if measure == "first_order" and first is with_a_state:
        assert result.optimizer.kept == pytest.approx(1, abs=0.02)

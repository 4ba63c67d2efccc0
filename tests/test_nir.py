"""Spiking models to NIR and back: the written equations, other programs, there and back, and errors."""

import warnings
from pathlib import Path

import keras
import nir_models
import numpy as np
import pytest

import keras_surrogate as ks
from keras_surrogate import conversion, functions, layers

nir = pytest.importorskip("nir")

REFERENCE = nir_models.FOLDER
SPIKES = np.load(REFERENCE / "nir.npz")
DT = 1e-4

every_model = pytest.mark.parametrize("name", nir_models.NAMES)


def channels_first(array):
    return np.moveaxis(array, -1, 2)


# ------------------------------------------------------------- NIR's equations, written in NumPy


def integrated(graph, currents, dt):
    """The outputs of a chain of nodes by forward Euler, for one sample (time, ...), channels first."""
    following = dict(graph.edges)
    name = following["input"]
    signal = currents.astype("float64")
    while name != "output":
        signal = NODES[type(graph.nodes[name]).__name__](graph.nodes[name], signal, dt)
        name = following[name]
    return signal


def affine(node, x, dt):
    return x @ node.weight.T.astype("float64") + getattr(node, "bias", 0)


def convolution(node, x, dt):
    """A loop over the places of the kernel; padding "same", strides 1."""
    out, _, height, width = node.weight.shape
    assert node.padding == "same"
    x = np.pad(x, [(0, 0), (0, 0), (height // 2,) * 2, (width // 2,) * 2])
    size = x.shape[2] - height + 1, x.shape[3] - width + 1
    y = np.zeros((len(x), out, *size)) + node.bias[:, None, None]
    for row in range(height):
        for column in range(width):
            window = x[:, :, row : row + size[0], column : column + size[1]]
            y += np.einsum("oi,tihw->tohw", node.weight[:, :, row, column], window)
    return y


def average_pooling(node, x, dt):
    assert list(node.kernel_size) == list(node.stride) == [2, 2]
    time, channels, height, width = x.shape
    return x.reshape(time, channels, height // 2, 2, width // 2, 2).mean((3, 5))


def flatten(node, x, dt):
    return x.reshape(len(x), -1)


def neuron(node, x, dt, loop=None):
    kind = type(node).__name__
    v = i = last = np.zeros(x.shape[1:])
    outputs = []
    for current in x:
        if loop is not None:
            current = current + loop.weight @ last
        if kind == "CubaLIF":
            i = i + dt / node.tau_syn * (-i + node.w_in * current)
            v = v + dt / node.tau_mem * (node.v_leak - v + node.r * i)
        elif kind in ("LIF", "LI"):
            v = v + dt / node.tau * (node.v_leak - v + node.r * current)
        else:
            v = v + dt * node.r * current
        last = v
        if kind in ("IF", "LIF", "CubaLIF"):
            last = (v > node.v_threshold).astype("float64")
            v = np.where(v > node.v_threshold, node.v_reset, v)
        outputs.append(last)
    return np.stack(outputs)


def recurrent(node, x, dt):
    return neuron(node.nodes["neuron"], x, dt, node.nodes["recurrent"])


NODES = {
    "Affine": affine,
    "Linear": affine,
    "Conv2d": convolution,
    "AvgPool2d": average_pooling,
    "Flatten": flatten,
    "NIRGraph": recurrent,
    **dict.fromkeys(("IF", "I", "LIF", "LI", "CubaLIF"), neuron),
}


@every_model
def test_the_written_equations_give_the_same_spikes(name, tmp_path):
    model = nir_models.model(name)
    currents = nir_models.currents(name)
    conversion.to_nir(model, path=tmp_path / "model.nir")
    graph = nir.read(tmp_path / "model.nir")
    spikes = model.predict(currents, verbose=0)
    assert 0.05 < spikes.mean() < 0.6
    if currents.ndim > 3:
        currents = channels_first(currents)
    for sample, expected in zip(currents, spikes, strict=True):
        np.testing.assert_array_equal(integrated(graph, sample, DT), expected)


@every_model
def test_other_programs_give_the_same_spikes(name):
    """The files of tests/reference were read by them; see nir_reference.py there."""
    model = conversion.from_nir(REFERENCE / f"nir_{name}.nir", steps=nir_models.STEPS)
    currents = np.load(REFERENCE / f"nir_{name}.npy")
    spikes = model.predict(currents, verbose=0)
    peers = [key for key in SPIKES.files if key.startswith(f"{name}/")]
    assert peers
    for peer in peers:
        np.testing.assert_array_equal(spikes, SPIKES[peer], err_msg=peer)


@every_model
def test_the_files_of_the_reference_are_those_written_today(name, tmp_path):
    conversion.to_nir(nir_models.model(name), path=tmp_path / "today.nir")
    today = nir.read(tmp_path / "today.nir").to_dict()
    kept = nir.read(REFERENCE / f"nir_{name}.nir").to_dict()
    keras.tree.map_structure(np.testing.assert_array_equal, today, kept)


# ------------------------------------------------------------------------------- there and back


def random_weights(model, seed=0):
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(generator.normal(0.05, 0.6, weight.shape))
    return model


def there_and_back(model, tmp_path, **options):
    conversion.to_nir(model, path=tmp_path / "model.nir", **options)
    return conversion.from_nir(tmp_path / "model.nir")


def assert_same_outputs(model, copy, minimum=0.02):
    shape = [9 if length is None else length for length in model.inputs[0].shape[1:]]
    x = np.random.default_rng(1).normal(0.3, 1, (4, *shape)).astype("float32")
    expected = np.asarray(model(x))
    assert np.abs(expected).mean() > minimum
    np.testing.assert_allclose(copy(x), expected, 1e-5, 1e-6)


def test_every_layer_comes_back(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((7, 9, 8, 2)),
            layers.OverTime(keras.layers.ZeroPadding2D(((1, 1), (2, 2)))),
            layers.OverTime(keras.layers.Conv2D(4, 3, strides=2, use_bias=False)),
            layers.LIF(reset="zero", threshold=0.8, learn_leak="channel"),
            layers.OverTime(keras.layers.AveragePooling2D(2)),
            keras.layers.Rescaling(4.0),
            layers.OverTime(keras.layers.Conv2D(3, 2, padding="same", dilation_rate=2)),
            layers.SynapticLIF(reset="zero", learn_threshold="unit"),
            layers.OverTime(keras.layers.Flatten()),
            keras.layers.Dropout(0.5),
            layers.IF(reset="zero", learn_threshold="unit"),
            keras.layers.Dense(9),
            keras.layers.Activation("linear"),
            keras.layers.RNN(
                layers.SpikingCell(
                    9, layers.neurons.SynapticLIFNeuron(reset="zero"), {"leak": "unit"}
                ),
                return_sequences=True,
                name="loop",
            ),
            keras.layers.Rescaling(0.5),
            layers.OverTime(keras.layers.Dense(3, use_bias=False)),
            layers.LI(0.7),
        ]
    )
    copy = there_and_back(random_weights(model), tmp_path)
    assert_same_outputs(model, copy)
    kinds = {type(node).__name__ for node in conversion.to_nir(model).nodes.values()}
    assert {"SumPool2d", "Scale", "Linear", "Affine", "NIRGraph", "IF", "LI"} <= kinds
    # A second time, from what from_nir made.
    again = there_and_back(copy, tmp_path)
    assert_same_outputs(model, again)
    assert "loop" in [layer.name for layer in again.layers]


def test_one_axis_of_convolution(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, 12, 3)),
            layers.OverTime(keras.layers.Conv1D(5, 3, strides=2, padding="valid")),
            layers.IF(reset="zero"),
            layers.OverTime(keras.layers.ZeroPadding1D(1)),
            layers.OverTime(keras.layers.Conv1D(4, 3)),
            keras.layers.TimeDistributed(keras.layers.Flatten()),
            layers.LIF(1.0, reset="zero"),
            keras.layers.Dense(4),
            layers.LI(1.0),
        ]
    )
    copy = there_and_back(random_weights(model), tmp_path, dt=1e-3)
    assert_same_outputs(model, copy)
    assert conversion.to_nir(model, dt=1e-3).metadata == {"dt": 1e-3}


@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_other_resets_come_back_with_a_warning(reset, delay, tmp_path):
    pair = ks.Surrogate("step", "atan")
    model = keras.Sequential(
        [
            keras.Input((None, 5)),
            layers.LIF(
                0.8,
                reset=reset,
                reset_delay=delay,
                detach_reset=False,
                surrogate=pair,
                return_potential=False,
                name="neurons",
            ),
        ]
    )
    if reset == "zero":
        copy = there_and_back(model, tmp_path)
    else:
        with pytest.warns(UserWarning, match=rf"neurons \(reset='{reset}'.*other spikes"):
            copy = there_and_back(model, tmp_path)
    assert copy.get_layer("neurons").neuron == model.get_layer("neurons").neuron
    assert_same_outputs(model, copy)


def test_a_neuron_that_fires_at_the_threshold_comes_back(tmp_path):
    """Whole currents reach the threshold exactly, where NIR's v > v_threshold does not hold."""
    for at_zero, fires in ((1.0, [0, 1, 0, 1]), (0.0, [0, 0, 1, 0])):
        pair = ks.Surrogate(functions.Step(at_zero), "atan")
        model = keras.Sequential(
            [keras.Input((4, 1)), layers.IF(2.0, reset="zero", surrogate=pair)]
        )
        x = np.ones((1, 4, 1), "float32")
        np.testing.assert_array_equal(model(x)[0, :, 0], fires)
        graph = conversion.to_nir(model)
        np.testing.assert_array_equal(integrated(graph, x[0], DT)[:, 0], fires)
        copy = there_and_back(model, tmp_path)
        np.testing.assert_array_equal(copy(x)[0, :, 0], fires)
        assert copy.layers[-1].neuron == model.layers[-1].neuron


def test_encoders_and_readouts_are_left_out(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, name="dense"),
            layers.ConstantCurrent(8),
            layers.LIF(reset="zero", name="neurons"),
            layers.SpikeCount(name="count"),
        ]
    )
    random_weights(model)
    with pytest.warns(UserWarning, match="without count: its input"):
        copy = there_and_back(model, tmp_path)
    x = np.random.default_rng(0).normal(0.5, 1, (3, 6)).astype("float32")
    count = np.asarray(model(x))
    assert count.max() > 0
    np.testing.assert_array_equal(np.sum(copy(np.repeat(x[:, None], 8, 1)), axis=1), count)


def test_the_copy_trains(tmp_path):
    copy = conversion.from_nir(
        REFERENCE / "nir_dense.nir", steps=4, surrogate=ks.Surrogate("step", "atan")
    )
    assert copy.get_layer("hidden").neuron.surrogate == ks.Surrogate("step", "atan")
    copy.compile("sgd", "mse")
    before = copy.get_weights()
    copy.fit(np.ones((8, 4, 6)), np.ones((8, 4, 5)), verbose=0)
    assert any(np.any(one != other) for one, other in zip(before, copy.get_weights(), strict=True))


# ------------------------------------------------------------------ graphs of other programs


def graph_of(*nodes, edges=None, **named):
    if edges is None:
        return nir.NIRGraph.from_list(*nodes)
    return nir.NIRGraph(nodes=named, edges=edges)


def lif(units=3, tau=1e-3, r=10.0, **changed):
    numbers = {"tau": tau, "r": r, "v_leak": 0.0, "v_threshold": 1.0, **changed}
    return nir.LIF(**{name: np.full(units, value) for name, value in numbers.items()})


def loop_graph(back):
    """A flat graph with a loop, as the authors of NIR and snnTorch write it."""
    eye = np.eye(3) * 1.5
    return graph_of(
        edges=[
            ("input", "first"),
            ("first", "lif.lif"),
            ("lif.lif", "lif.w_rec"),
            ("lif.w_rec", "lif.lif"),
            ("lif.lif", "output"),
        ],
        **{
            "input": nir.Input(np.array([3])),
            "first": nir.Linear(eye),
            "lif.lif": lif(),
            "lif.w_rec": back,
            "output": nir.Output(np.array([3])),
        },
    )


def test_a_flat_loop_with_a_bias():
    weight = np.array([[0.1, 0.4, -0.3], [0.2, 0.1, 0.5], [-0.6, 0.3, 0.2]])
    bias = np.array([0.1, -0.2, 0.3])
    model = conversion.from_nir(loop_graph(nir.Affine(weight, bias)))
    x = np.random.default_rng(0).normal(0.2, 1, (1, 30, 3)).astype("float32")
    expected = neuron(lif(), x[0] * 1.5 + bias, DT, nir.Linear(weight))
    assert 0.1 < expected.mean() < 0.6
    np.testing.assert_array_equal(model(x)[0], expected)


def test_the_resistance_counts():
    """Units of different gain fire as the equations say."""
    node = lif(r=np.array([5.0, 10.0, 20.0]))
    x = np.random.default_rng(0).normal(0.3, 1, (1, 40, 3)).astype("float32")
    expected = neuron(node, x[0], DT)
    assert len(np.unique(expected.mean(0))) == 3
    np.testing.assert_array_equal(conversion.from_nir(graph_of(node))(x)[0], expected)
    leaky = nir.LI(tau=np.full(3, 1e-3), r=np.full(3, 2.0), v_leak=np.zeros(3))
    got = conversion.from_nir(graph_of(leaky))(x)[0]
    np.testing.assert_allclose(got, neuron(leaky, x[0], DT), 1e-5, 1e-6)
    # Another step changes leak and gain.
    got = conversion.from_nir(graph_of(leaky), dt=2e-4)(x)[0]
    np.testing.assert_allclose(got, neuron(leaky, x[0], 2e-4), 1e-5, 1e-6)


def test_padding_counts_in_the_mean():
    node = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1]))
    graph = nir.NIRGraph(
        {"input": nir.Input(np.array([1, 4, 4])), "p": node, "output": nir.Output(None)},
        [("input", "p"), ("p", "output")],
    )
    y = conversion.from_nir(graph)(np.ones((1, 1, 4, 4, 1)))
    np.testing.assert_allclose(
        y[0, 0, :, :, 0], [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    )


def test_images_without_channels_stay_as_they_are(tmp_path):
    """The same images go into the model and into the written equations."""
    model = keras.Sequential(
        [
            keras.Input((4, 6)),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
            layers.ConstantCurrent(9),
            layers.LIF(reset="zero"),
            keras.layers.Dense(3),
        ]
    )
    graph = conversion.to_nir(model, DT)
    images = np.random.default_rng(0).normal(0, 1, (2, 4, 6)).astype("float32")
    assert list(graph.nodes["input"].input_type["input"]) == [4, 6]
    expected = [integrated(graph, np.repeat(one[None], 9, axis=0), DT) for one in images]
    np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-5)
    back = conversion.from_nir(graph)
    np.testing.assert_allclose(back(np.repeat(images[:, None], 9, axis=1)), model(images), 1e-5)


def test_two_axes_with_thresholds_of_their_own():
    thresholds = np.arange(1.0, 7).reshape(2, 3)
    graph = graph_of(lif((2, 3), v_threshold=thresholds))
    model = conversion.from_nir(graph)
    currents = np.full((1, 30, 2, 3), 4.5, "float32")
    expected = integrated(graph, currents[0], DT)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(model(currents)[0], expected)
    again = conversion.to_nir(model)
    np.testing.assert_allclose(again.nodes["lif"].v_threshold, thresholds, 1e-6)


# ------------------------------------------------------------------------------------- errors


def branched():
    node = nir.Linear(np.eye(3))
    return graph_of(
        edges=[("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")],
        input=nir.Input(np.array([3])),
        a=node,
        b=lif(),
        output=nir.Output(np.array([3])),
    )


def long_loop():
    eye = nir.Linear(np.eye(3))
    return graph_of(
        edges=[("input", "a"), ("a", "n"), ("n", "b"), ("b", "a"), ("n", "output")],
        input=nir.Input(np.array([3])),
        a=eye,
        n=lif(),
        b=eye,
        output=nir.Output(np.array([3])),
    )


@pytest.mark.parametrize(
    ("graph", "options", "message"),
    [
        (lambda: graph_of(nir.Threshold(np.ones(3))), {}, r"threshold \(Threshold: no such layer"),
        (branched, {}, "must be a chain, but after input it goes on to a, b"),
        (long_loop, {}, "must be a chain, but after n it goes on to"),
        (
            lambda: graph_of(lif(tau=5e-5)),
            {},
            "tau of 5e-05 s is smaller than the step dt = 0.0001",
        ),
        (
            lambda: graph_of(lif(tau=np.array([1e-3, 1e-4, 1e-3]))),
            {},
            "different leaks, which become weights, and these cannot hold 0",
        ),
        (
            lambda: graph_of(lif(v_threshold=np.array([1, -0.5, 1]))),
            {},
            "different thresholds, .* cannot hold -0.5",
        ),
        (lambda: graph_of(lif()), {"dt": 0}, "dt must be a positive number"),
        (lambda: graph_of(lif()), {"steps": 0}, "steps must be an integer of at least 1"),
        (lambda: graph_of(lif(v_reset=-0.5)), {}, "its v_reset must be 0"),
        (lambda: graph_of(lif(v_leak=0.5)), {}, "its v_leak must be 0"),
        (lambda: graph_of(nir.Scale(np.arange(3.0))), {}, "more than one factor"),
        (
            lambda: loop_graph(nir.Linear(np.ones((3, 3)))).nodes["lif.lif"],
            {},
            "needs a nir.NIRGraph",
        ),
        (lambda: "no/such.nir", {}, "no/such.nir cannot be read"),
        (lambda: __file__, {}, "cannot be read as a NIR file"),
    ],
)
def test_graphs_that_do_not_fit(graph, options, message):
    with pytest.raises(ValueError, match=message):
        conversion.from_nir(graph(), **options)


def sequential(*made, shape=(5, 6, 6, 2)):
    return keras.Sequential([keras.Input(shape), *made])


def two_inputs():
    x = keras.Input((5, 3))
    y = keras.layers.Dense(3)(x)
    return keras.Model(x, keras.layers.Add()([x, y]))


OVER = layers.OverTime


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: sequential(OVER(keras.layers.MaxPooling2D(2)), layers.ALIF(name="a")),
            r"MaxPooling2D: no such node\), a \(ALIF: NIR has no ALIF neuron\)",
        ),
        (lambda: sequential(keras.layers.Flatten()), "wrap it in layers.OverTime"),
        (
            lambda: sequential(OVER(keras.layers.Dense(2, "relu"))),
            "Dense: its activation relu",
        ),
        (lambda: sequential(OVER(keras.layers.Dense(2))), "put a Flatten before"),
        (lambda: sequential(layers.IF(go_backwards=True)), "go_backwards"),
        (lambda: sequential(keras.layers.TimeDistributed(layers.IF())), "without TimeDistributed"),
        (lambda: sequential(layers.IF(surrogate=ks.Surrogate("sign", "atan"))), "values of sign"),
        (lambda: sequential(OVER(keras.layers.Flatten())), "a Dense must follow"),
        (lambda: sequential(OVER(keras.layers.Conv2D(2, (3, 1)))), "takes kernels for square"),
        (
            lambda: sequential(OVER(keras.layers.Conv2D(2, 3, strides=2, padding="same"))),
            "more zeros on one side",
        ),
        (lambda: sequential(OVER(keras.layers.ZeroPadding2D(1))), "pooling must follow"),
        (
            lambda: sequential(OVER(keras.layers.ZeroPadding2D(1)), layers.IF(name="neurons")),
            r"neurons \(IF: zero_padding2d_?\d* pads its input",
        ),
        (lambda: sequential(keras.layers.Dropout(0.1), shape=(5, 3)), "without such layers"),
        (two_inputs, "must be a chain of layers, but add"),
        (lambda: sequential(layers.IF(), shape=(5, None)), "must be known"),
        (lambda: keras.Sequential([layers.IF()]), "that is built"),
        (lambda: layers.IF(), "needs a Keras model"),
    ],
)
def test_models_that_do_not_fit(model, message):
    with pytest.raises(ValueError, match=message):
        conversion.to_nir(model())


def test_bad_arguments(tmp_path):
    model = sequential(layers.IF(reset="zero"), shape=(5, 3))
    with pytest.raises(ValueError, match="dt must be a positive number"):
        conversion.to_nir(model, dt=-1.0)
    with pytest.raises(ValueError, match="cannot be written"):
        conversion.to_nir(model, path=tmp_path / "no" / "model.nir")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(ImportError, match="pip install nir"):
        conversion.from_nir("model.nir")
    assert Path(conversion.__file__).exists()


def test_no_warning_for_a_reset_to_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conversion.to_nir(nir_models.model("dense"))

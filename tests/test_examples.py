"""Every script in examples/ runs, at tiny size, and what it measures is plausible."""

import functools
import importlib.util
import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import datasets

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))

# This one trains for a second; the others run only with --all.
SHORT = ("01_quickstart",)

every_script = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
every_run = pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem in SHORT else pytest.mark.slow) for p in SCRIPTS],
    ids=lambda path: path.stem,
)


def load(path):
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a script's `main` at tiny size, once: returns its result, its output folder, its working folder."""

    @functools.cache
    def run(path):
        folder, working = tmp_path_factory.mktemp("output"), tmp_path_factory.mktemp("working")
        tiny = {
            "epochs": 1,
            "networks": 40,
            "steps": 2,
            "output": folder,
            "starts": [("Adam", -3.0)],
        }
        main = load(path).main
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(working)
            result = main(
                **{name: tiny[name] for name in inspect.signature(main).parameters if name in tiny}
            )
        return result, folder, working

    return run


def script(name):
    return next(path for path in SCRIPTS if path.stem.endswith(name))


def numbers(result):
    """All numbers in nested dictionaries, lists and tuples."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, np.ndarray):
        return result.ravel().tolist()
    return (
        [number for part in result for number in numbers(part)]
        if isinstance(result, list | tuple)
        else [result]
    )


def test_there_are_scripts():
    assert SCRIPTS


@every_run
def test_runs_and_returns_finite_numbers(path, run):
    result, *_ = run(path)
    assert numbers(result)
    assert np.isfinite(numbers(result)).all()


@every_script
def test_says_how_to_run_it(path):
    assert f"python examples/{path.name}" in load(path).__doc__


@every_run
def test_writes_nothing_where_it_is_run(path, run):
    _, _, working = run(path)
    assert not list(working.iterdir())


def test_quickstart_learns_and_both_saved_forms_agree(run):
    (accuracy, norms), folder, _ = run(script("quickstart"))
    assert accuracy > 0.2
    assert min(numbers(norms)) > 0
    images = datasets.load("digits").x_test[:16]
    model, exported = (
        keras.saving.load_model(folder / "model.keras"),
        tf.saved_model.load(folder / "savedmodel"),
    )
    np.testing.assert_allclose(exported.serve(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_deep_sigmoid_gradient_vanishes_only_under_the_true_slope(run):
    ratios = {name: ratio for name, (_, ratio) in run(script("deep_sigmoid"))[0].items()}
    assert ratios["true slope"] < ratios["flat_spot"] < 0.05
    assert min(ratios["4 x own slope"], ratios["slope of tanh"]) > 0.1


@pytest.mark.slow
def test_dying_relu_starts_dead_and_reaches_only_incoming_weights(run):
    for (_, _, backward), (before, _, incoming, outgoing, _) in run(script("dying_relu"))[
        0
    ].items():
        assert before == 1
        assert outgoing == 0
        assert (incoming > 0) == (backward != "relu")


@pytest.mark.slow
@pytest.mark.parametrize(("backward", "revives"), [("relu", False), ("sugar_bsilu", True)])
def test_dying_relu_revives_by_a_surrogate_alone(backward, revives):
    module = load(script("dying_relu"))
    before, after, *_ = module.measure(backward, "SGD", -1.0, 6, datasets.load("digits"))
    assert (after < before) == revives


@pytest.mark.slow
def test_fine_tuning_without_the_package_lowers_the_loss(run):
    result, *_ = run(script("export_and_fine_tune"))
    assert result["after"] < result["before"]
    assert result["first_layer_gradient"] > 0


@pytest.mark.slow
def test_binarized_multiplies_by_ones_alone_and_learns_only_by_the_surrogate(run):
    results = run(script("binarized"))[0]
    _, gradients, ones, bits = zip(*results.values(), strict=True)
    assert ones[:2] == (1, 1) and bits == (1, 1, 32)
    assert gradients[0] > 0 and gradients[1] == 0


def test_binarized_latent_weights_stay_within_ones_and_the_layer_survives_saving(tmp_path):
    layer = load(script("binarized")).binary_dense(3)
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(keras.optimizers.SGD(100.0), "mse")
    x = np.array([[1.0, -2.0], [3.0, 0.5]], dtype="float32")
    model.fit(x, np.zeros((2, 3)), verbose=0)
    assert np.max(np.abs(layer.layer.kernel)) == 1
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.layers[-1].surrogate == layer.surrogate


@pytest.mark.slow
def test_spiking_gradient_reaches_the_first_layer_only_by_the_surrogate(run):
    (*_, surrogate), (*_, true) = run(script("spiking"))[0].values()
    assert surrogate > 0 and true == 0


def test_spiking_network_survives_saving(tmp_path):
    module = load(script("spiking"))
    model = module.build(next(iter(module.SPIKES.values())), seed=0, width=4, steps=3)
    model.save(tmp_path / "model.keras")
    # Without its optimizer, about whose missing state Keras warns if the model has not been
    # trained.
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    images = np.random.default_rng(0).random((5, 64))
    np.testing.assert_array_equal(loaded(images), model(images))
    assert loaded.get_layer("spikes_1").neuron == model.get_layer("spikes_1").neuron


@pytest.mark.slow
def test_swap_resnet_serves_what_was_trained_with_the_surrogate(run):
    results, folder, _ = run(script("swap_resnet"))
    assert results["served"] == pytest.approx(results["leaky slope"], abs=1e-6)
    model = keras.saving.load_model(folder / "served.keras")
    assert sum(isinstance(layer, keras.layers.ReLU) for layer in model.layers) == 6


@pytest.mark.slow
def test_spiking_learns_the_digits():
    results = load(script("spiking")).main()
    (accuracy, *rates, _), (without, *_) = results.values()
    assert accuracy > 0.95
    assert without < accuracy - 0.1
    assert all(0.01 < rate < 0.5 for rate in rates)


@pytest.mark.slow
def test_tanh_nx_is_tanh_with_other_rates_for_the_hidden_layers_alone(run):
    results, folder, _ = run(script("tanh_nx"))
    differences = {name: difference for name, (difference, _) in results.items()}
    assert differences.pop("n² r hidden, r last") < 1e-4
    assert differences.pop("r") == 0
    assert min(differences.values()) > 0.1
    assert (folder / "tanh_thresholds.png").stat().st_size > 10_000


@pytest.mark.slow
def test_gradient_paths_says_how_often_products_exceed_what_is_told_never_to_be(run):
    results, folder, _ = run(script("gradient_paths"))
    assert 1 / 10 < results["uniform"][1] < 1 / 9
    assert results["relu"][0] == 1 and results["sugar_bsilu"][3] > 0.5
    assert (folder / "gradient_paths.png").stat().st_size > 50_000


@pytest.mark.slow
def test_predictions_are_near_what_training_measures(run):
    results, folder, _ = run(script("predict_then_train"))
    for predicted, measured, _ in results.values():
        assert abs(np.log10(predicted / measured)) < 0.5
    assert results["B-SiLU slope"][1] > 30 > 3 > results["B-SiLU slope, balanced"][1]
    assert (folder / "predict_then_train.png").stat().st_size > 10_000


@pytest.mark.slow
def test_two_workers_record_the_same_norms_as_one_process(run):
    first, second, alone = run(script("multi_worker"))[0]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=1e-5)


@pytest.mark.slow
def test_diagnose_finds_each_planted_fault_and_nothing_in_the_sound_model(run):
    results, folder, _ = run(script("diagnose"))
    found = {fault: set(findings) for fault, findings in results["found"].items()}
    assert found.pop("nothing") == set()
    expected = {
        "a dead layer": "dead_units",
        "saturated": "saturated",
        "exploding weights": "exploding_signal",
        "inputs not centred": "input_offset",
        "vanishing gradient": "vanishing_gradient",
        "collapsed signal": "collapsed_signal",
        "surrogate far from the slope": "misaligned",
    }
    assert all(expected[fault] in kinds for fault, kinds in found.items())
    assert len(found) == len(expected)
    assert results["accuracy"][1] > results["accuracy"][0]
    assert (folder / "diagnosis.png").stat().st_size > 10_000

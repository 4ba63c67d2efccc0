"""The studies of dead units in examples/evidence: their tables, their closed form, their networks."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import datasets, simulation
from keras_surrogate.diagnosis import advice

FOLDER = Path(__file__).parents[1] / "examples" / "evidence"
RESULTS = FOLDER / "results"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module


@pytest.fixture
def born_dead(load):
    return load("born_dead")


@pytest.fixture
def plasticity(load):
    return load("plasticity")


@pytest.fixture
def small(plasticity, monkeypatch):
    """The tasks, made of few images."""
    random = np.random.default_rng(0)
    images = random.random((40, 28, 28)).astype("float32")
    labels = random.integers(0, 10, 40)
    labels[:10] = range(10)
    for kind in plasticity.Tasks.known.values():
        monkeypatch.setattr(kind, "images", 40)
        monkeypatch.setattr(kind, "epochs", 2)
    return datasets.Dataset("few", images, labels, np.tile(images, (50, 1, 1)), np.tile(labels, 50))


def within_chance(share, probability, count):
    """True within four standard deviations of a binomial share."""
    return abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / count)


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("depth", [1, 5, 12])
def test_the_closed_form_is_the_share_of_sampled_networks(born_dead, width, depth):
    drawn = born_dead.Networks.draw(4000, width, depth, seed=3)
    # The first layer has one input here. Which one does not matter.
    dead = drawn.born_dead(np.array([0.7], "float32"))
    assert within_chance(dead.mean(), born_dead.closed_form(width, depth), 4000)


def test_networks_drawn_elsewhere_are_born_dead_as_often(born_dead):
    sample = simulation.gradient_sample("relu", 5, 4000, 3, weight_variance=2.0)
    dead = np.mean(sample.log10_norm == -np.inf)
    assert within_chance(dead, born_dead.closed_form(3, 5), 4000)


def test_every_sampled_share_agrees_with_the_closed_form(born_dead):
    runs = born_dead.finished(born_dead.shares())
    assert len(runs) == len(born_dead.shares())
    dead = {(one["kind"], one["width"], one["depth"]): one["dead"] for one in runs}
    for (kind, width, depth), share in dead.items():
        bound = born_dead.closed_form(width, depth)
        if kind == "one input":
            assert within_chance(share, bound, born_dead.SAMPLED)
        if kind == "all points":
            # A network that is dead for all inputs is dead for one of them.
            assert share < bound


@pytest.mark.parametrize("name", ["true slope", "slope softplus", "slope leaky 0.3"])
def test_only_incoming_weights_of_a_dead_layer_get_a_gradient_and_only_from_a_slope(
    born_dead, name
):
    drawn = born_dead.Networks.draw(50, 4, 3, seed=0)
    # The second layer is dead: its outgoing weights are those of the third one.
    drawn.biases[1] = drawn.biases[1] - 20
    assert drawn.born_dead().all()
    surrogate = born_dead.METHODS[name]
    with tf.GradientTape() as tape:
        tape.watch(drawn.weights)
        loss = tf.reduce_sum(tf.square(drawn.output(surrogate, born_dead.POINTS) - 1))
    incoming, outgoing = (np.abs(one).max() for one in tape.gradient(loss, drawn.weights)[1:3])
    assert outgoing == 0
    assert (incoming > 0) == (name != "true slope")


def test_a_network_born_dead_learns_nothing_with_the_true_slope(born_dead):
    for run in born_dead.finished(born_dead.trainings()):
        for counts in (value for value in run.values() if isinstance(value, dict)):
            assert counts["learned, born dead"] <= counts["born dead"] <= counts["networks"]
            assert counts["learned"] + counts["constant"] <= counts["networks"]
            if run["method"] in ("true slope", born_dead.ASYMMETRIC):
                assert counts["constant, born dead"] == counts["born dead"]


def test_trainings_of_small_networks_are_counted(born_dead, monkeypatch):
    monkeypatch.setattr(born_dead, "NETWORKS", 12)
    monkeypatch.setattr(born_dead, "CHOOSING", 4)
    monkeypatch.setattr(born_dead, "STEPS", 2)
    monkeypatch.setattr(born_dead, "DEPTH", 2)
    found = born_dead.train("slope leaky 0.3", "adam", 2)
    assert [one["networks"] for one in found.values()] == [4, 8] * len(born_dead.RATES["adam"])


def test_the_tables_of_networks_born_dead_are_what_the_results_say(born_dead):
    trained = born_dead.finished(born_dead.trainings())
    assert len(trained) == len(born_dead.trainings())
    sampled = born_dead.finished(born_dead.shares())
    shares = (RESULTS / "born_dead_shares.md").read_text()
    assert shares == born_dead.table_of_shares(sampled)
    assert (RESULTS / "born_dead.md").read_text() == born_dead.table_of_trainings(trained)
    assert (RESULTS / "born_dead.png").exists()


def test_the_numbers_of_the_advice_are_those_of_the_results(born_dead, load):
    learned = {
        (one["optimizer"], one["method"]): born_dead.reported(one)["learned"]
        for one in born_dead.finished(born_dead.trainings())
        if one["width"] == 3
    }
    adam = [learned["adam", f"slope {name}"] for name in ("softplus", "leaky 0.1")]
    sgd = [learned["sgd", f"slope {name}"] for name in ("softplus", "leaky 0.1")]
    forward = [learned[optimizer, "leaky forward 0.1"] for optimizer in ("adam", "sgd")]
    asymmetric = [learned[optimizer, born_dead.ASYMMETRIC] for optimizer in ("adam", "sgd")]
    keep = advice.KEEP_RELU
    assert f'{adam[0]} learned under Adam with ks.get("artificial_relu"), {adam[1]} with' in keep
    assert f"and {asymmetric[0]} with initializers.RandomizedAsymmetric" in keep
    assert f"{sgd[0]}, {sgd[1]} and {asymmetric[1]}, and {forward[1]} with leaky_relu" in keep
    revive = advice.REVIVE[1]
    true = learned["adam", "true slope"]
    assert f"{forward[0]} learned |x| under Adam with leaky_relu, and {true} with ReLU" in revive

    report = load("report")
    cells = {}
    for row in report.every_rate("dying"):
        if row.case.backward == "true" and row.case.forward == "relu":
            cells[row.case.normalization, row.case.optimizer] = report._dying(row)
    small, large = (cells["none", f"adam:{rate}"].split("; ") for rate in ("0.001", "0.03"))
    assert f"{small[0]} % were dead" in advice.REVIVE[0]
    assert f"and {large[0]} % at 0.03 ({float(large[1]):.0f} %)" in advice.REVIVE[0]
    assert {cell.split(";")[0] for key, cell in cells.items() if key[0] == "batch"} == {"0"}


def test_the_tables_of_plasticity_are_what_the_results_say(plasticity):
    runs = plasticity.study.read(plasticity.NAME, RESULTS)
    found = plasticity.rows(runs)
    # Each row has the runs that chose its rate, and those that are reported.
    assert len(found) == len(plasticity.Tasks.known) * len(plasticity.RATES) * len(
        plasticity.METHODS
    )
    assert {tuple(row.accuracy.shape) for row in found} == {(5, plasticity.COUNT)}
    assert (RESULTS / "plasticity.md").read_text() == plasticity.table(found)
    fixed = (RESULTS / "plasticity_fixed.md").read_text()
    assert fixed == plasticity.table_at_largest_rate(found)
    assert (RESULTS / "plasticity.png").exists()


def test_the_rate_is_chosen_by_the_mean_accuracy(plasticity):
    runs = [
        {"rate": rate, "accuracy": [first, last]}
        for rate, first, last in [(1, 0.9, 0.2), (1, 0.9, 0.2), (2, 0.6, 0.6), (2, 0.6, 0.7)]
    ]
    assert plasticity.chosen(runs) == 2


def test_tasks_change_pixels_or_labels_and_are_the_same_for_a_seed(plasticity, small):
    for kind in plasticity.Tasks.known.values():
        one = kind(small, seed=1)
        first = one.arrays(0)
        second = one.arrays(1)
        again = kind(small, seed=1).arrays(1)
        assert all(np.array_equal(a, b) for a, b in zip(second, again, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        assert np.array_equal(np.sort(first[0]), np.sort(second[0]))
    permuted = plasticity.Permuted(small, seed=1)
    assert np.array_equal(permuted.arrays(0)[1], permuted.arrays(1)[1])
    relabelled = plasticity.Relabelled(small, seed=1)
    assert np.array_equal(relabelled.arrays(0)[0], relabelled.arrays(1)[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ReDo every 100", "slope softplus, calibrated", "restart"])
def test_a_method_trains_all_tasks_and_a_seed_gives_the_same(
    plasticity, small, method, monkeypatch
):
    monkeypatch.setattr(plasticity, "COUNT", 2)
    monkeypatch.setattr(plasticity, "PROBED", 40)
    learner = plasticity.Learner(plasticity.METHODS[method], "adam")
    tasks = plasticity.Permuted(small, seed=1)
    first = learner.train(tasks, 0.0003)
    # Also where the optimizer begins anew with each task.
    assert float(learner._optimizer.learning_rate) == pytest.approx(0.0003)
    assert len(first["accuracy"]) == len(first["dead"]) == len(first["dormant"]) == 2
    assert learner.train(tasks, 0.0003) == first


def test_the_page_names_the_scripts():
    page = (FOLDER / "README.md").read_text()
    assert "born_dead.py" in page and "plasticity.py" in page

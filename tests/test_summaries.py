"""TensorBoard reads the numbers that were recorded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import files
from keras_surrogate.callbacks import GradientNormLogger, summaries
from keras_surrogate.callbacks.summaries import SummaryWriter
from keras_surrogate.recording.quantities import GradientHistogram

pytest.importorskip("tensorboard")
# TensorBoard's own reader, in versions that came with older TensorFlow.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(60, 6)).astype("float32"), RANDOM.normal(size=(60, 3)).astype("float32")


def read(folder):
    """TensorBoard's reader, which keeps everything. Its import takes some seconds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), {"scalars": 0, "histograms": 0}).Reload()


def scalars(events, tag):
    return np.array([event.step for event in events.Scalars(tag)]), np.array(
        [e.value for e in events.Scalars(tag)]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs") / "made" / "when needed"
    encoder = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4, "relu", name="dense")], name="encoder"
    )
    decoder = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, "tanh", name="dense")], name="decoder"
    )
    model = keras.Sequential(
        [keras.Input((6,)), encoder, decoder, keras.layers.Dense(3, name="last")]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    also = ("histogram", "activations", "update_ratio", "delta_norm")
    logger = GradientNormLogger(every=2, also=also, log_dir=folder, read_every=4)
    model.fit(X, Y, batch_size=10, epochs=3, verbose=0, callbacks=[logger])
    return logger.record, read(folder)


def test_every_number_is_under_its_layer(run):
    record, events = run
    layers = ["global", "encoder.dense", "decoder.dense", "last"]
    expected = {
        f"{layer}/{quantity}" for layer in layers for quantity in ("gradient_norm", "update_ratio")
    }
    outputs = [
        "activation_mean",
        "activation_variance",
        "activation_zeros",
        "dead_units",
        "delta_norm",
    ]
    expected |= {f"{layer}/{quantity}" for layer in layers[1:] for quantity in outputs}
    expected.add("decoder.dense/activation_saturated")
    assert set(events.Tags()["scalars"]) == expected
    assert set(events.Tags()["histograms"]) == {f"{layer}/log10_gradient" for layer in layers}
    for column, values in zip(record.columns, record.values.T, strict=True):
        if "[" not in column:
            quantity, layer = column.split("/", 1)
            steps, written = scalars(events, f"{layer.replace('/', '.')}/{quantity}")
            np.testing.assert_array_equal(steps, np.arange(0, 18, 2))
            np.testing.assert_array_equal(written, values.astype(np.float32))


def test_histograms_have_the_counted_elements_in_their_decades(run):
    record, events = run
    for name, counts in record.histograms().items():
        written = events.Histograms(f"{name.replace('/', '.')}/log10_gradient")
        assert [event.step for event in written] == record.steps.tolist()
        for event, count in zip(written, counts, strict=True):
            histogram = event.histogram_value
            np.testing.assert_array_equal(histogram.bucket, count[1:-1])
            np.testing.assert_array_equal(histogram.bucket_limit, np.arange(-12, 5))
            assert (histogram.min, histogram.num) == (-13, count[1:-1].sum())
    # The label of a power of ten is the lower limit of its bin.
    assert GradientHistogram.labels[2] == f"1e{-12}" and GradientHistogram.labels[-2] == ">=1e3"


def test_what_is_not_finite_or_all_zero_can_be_read(tmp_path):
    columns = [
        "gradient_norm/global",
        *(f"gradient_histogram[{label}]/global" for label in GradientHistogram.labels),
    ]
    rows = np.zeros((4, len(columns)))
    rows[:, 0] = 0, np.nan, np.inf, 1e-300
    rows[0, 1], rows[1, 1:], rows[2, -1] = 7, np.nan, 7
    SummaryWriter(tmp_path).write(columns, [0, 1, 2, 3], [0] * 4, rows)
    events = read(tmp_path)
    np.testing.assert_array_equal(
        scalars(events, "global/gradient_norm")[1], [0, np.nan, np.inf, 0]
    )
    assert [event.histogram_value.num for event in events.Histograms("global/log10_gradient")] == [
        0,
        0,
        0,
        0,
    ]
    assert len(events.CompressedHistograms("global/log10_gradient")) == 4


def test_a_default_writer_and_condition_of_the_user_do_not_matter(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path / "other"))
    with writer.as_default(step=7), tf.summary.record_if(False):
        SummaryWriter(tmp_path / "ours").write(["gradient_norm/global"], [3], [0], np.ones((1, 1)))
    writer.close()
    assert scalars(read(tmp_path / "ours"), "global/gradient_norm")[0].tolist() == [3]
    assert not read(tmp_path / "other").Tags()["scalars"]


def test_a_step_is_one_write_however_many_columns(tmp_path, monkeypatch):
    steps, write = [], tf.summary.experimental.write_raw_pb

    def counted(event, step):
        steps.append(step)
        return write(event, step)

    monkeypatch.setattr(tf.summary.experimental, "write_raw_pb", counted)
    columns = [f"gradient_norm/layer_{number}" for number in range(60)]
    SummaryWriter(tmp_path).write(
        columns, np.arange(100), np.zeros(100, int), RANDOM.random((100, 60))
    )
    assert steps == list(range(100))
    assert len(scalars(read(tmp_path), "layer_59/gradient_norm")[0]) == 100


def test_a_folder_that_cannot_be_one_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for log_dir in (tmp_path / "file", tmp_path / "file" / "logs"):
        for refuse in (SummaryWriter, summaries.check_log_dir):
            with pytest.raises(
                ValueError,
                match=f"{log_dir} cannot be a folder, because {tmp_path / 'file'} is a file",
            ):
                refuse(log_dir)


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(
        ValueError, match=f"{tmp_path / 'a'} cannot be written to, because {tmp_path} is not"
    ):
        SummaryWriter(tmp_path / "a")


def test_a_folder_elsewhere_is_left_to_tensorflow():
    summaries.check_log_dir("gs://bucket/logs")
    with pytest.raises(ValueError, match="nowhere://bucket/logs cannot be used"):
        SummaryWriter("nowhere://bucket/logs")


def test_a_failing_disk_is_an_os_error_with_a_short_message(tmp_path, monkeypatch):
    def fail(*arguments):
        raise tf.errors.ResourceExhaustedError(
            None, None, "{{function_node x}} run.v2; No space left on device [Op:Y]"
        )

    writer = SummaryWriter(tmp_path)
    monkeypatch.setattr(tf.summary.experimental, "write_raw_pb", fail)
    with pytest.raises(OSError, match=r"cannot be written \(run.v2; No space left on device\)"):
        writer.write(["gradient_norm/global"], [0], [0], np.ones((1, 1)))


def test_without_tensorboard_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(summaries.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        SummaryWriter(tmp_path)

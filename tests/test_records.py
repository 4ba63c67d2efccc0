"""Files give back what was recorded, also after the run was interrupted."""

import dataclasses
import os
import sys

import numpy as np
import pytest

from keras_surrogate import records
from keras_surrogate.callbacks.csv_file import CsvFile
from keras_surrogate.recording.quantities import GradientHistogram

NAMES = ("encoder/dense", "encoder/dense_1", 'odd, "name" \u00e4')
COLUMNS = (
    "gradient_norm/global",
    *(f"gradient_norm/{name}" for name in NAMES),
    *(f"activation_mean/{name}" for name in NAMES[:2]),
)
EXTREMES = [0.0, np.nan, np.inf, 1e-300, 1 / 3, -2.5]


def make(steps=5, columns=COLUMNS, kind="raw"):
    values = np.random.default_rng(0).normal(size=(steps, len(columns)))
    values[-1:] = (EXTREMES * len(columns))[: len(columns)]
    return records.Record(tuple(columns), np.arange(steps) * 3, np.arange(steps) // 2, values, kind)


def assert_same(ours, other):
    for field in dataclasses.fields(records.Record):
        np.testing.assert_array_equal(
            getattr(ours, field.name), getattr(other, field.name), strict=True
        )


@pytest.mark.parametrize("kind", ["raw", "applied"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("write", [records.Record.to_csv, records.Record.to_npz])
def test_every_digit_comes_back(write, steps, kind, tmp_path):
    record = make(steps, kind=kind)
    write(record, tmp_path / "run")
    assert_same(records.load(tmp_path / "run"), record)
    assert_same(records.load(str(tmp_path / "run")), record)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("columns", [COLUMNS, ()])
@pytest.mark.parametrize("write", [records.Record.to_csv, records.Record.to_npz])
def test_a_record_without_steps_comes_back(write, columns, tmp_path):
    write(make(0, columns), tmp_path / "run")
    assert_same(records.load(tmp_path / "run"), make(0, columns))


def test_what_a_record_tells():
    record = make()
    assert record.quantities == ("gradient_norm", "activation_mean")
    assert record.layer_names == list(NAMES) == list(record.names("gradient_norm"))
    assert record.names("activation_mean") == NAMES[:2]
    np.testing.assert_array_equal(record.norms, record.values[:, 1:4])
    np.testing.assert_array_equal(record["activation_mean"], record.values[:, 4:])
    np.testing.assert_array_equal(record.global_norms, record.values[:, 0])
    np.testing.assert_array_equal(record.rows(slice(1, 3)).values, record.values[1:3])
    assert record == record and record != make()


def test_an_empty_record_has_no_layers():
    record = make(0, ())
    assert (
        record.layer_names == []
        and record.norms.shape == (0, 0)
        and record.global_norms.shape == (0,)
    )
    assert record.histograms() == {} and record.nonfinite == {}


def test_what_was_not_recorded_is_named():
    with pytest.raises(
        ValueError,
        match=r"No quantity 'update_ratio' was recorded. Recorded quantities: gradient_norm,",
    ):
        make()["update_ratio"]
    with pytest.raises(ValueError, match="activation_mean was recorded only layer by layer"):
        make().total("activation_mean")


def test_histograms_are_put_together():
    owners = ("global", *NAMES)
    columns = [
        f"gradient_histogram[{label}]/{owner}"
        for owner in owners
        for label in GradientHistogram.labels
    ]
    record = make(4, columns)
    assert list(record.histograms()) == list(owners)
    for number, counts in enumerate(record.histograms().values()):
        width = GradientHistogram.width
        np.testing.assert_array_equal(
            counts, record.values[:, number * width : (number + 1) * width]
        )


NONFINITE = {
    "raw": {6: "second", 9: "third", 12: "first", 15: "third"},
    "applied": {6: "first", 12: "first", 15: "third"},
}


@pytest.mark.parametrize("kind", NONFINITE)
def test_nonfinite_names_the_first_layer_in_the_backward_pass(kind):
    norms = np.ones((6, 3))
    norms[2, :2] = np.inf, np.nan
    norms[3] = np.nan  # applied: the step updates nothing
    norms[4, 0] = np.inf
    norms[5] = np.nan, np.nan, np.inf
    columns = (
        "gradient_norm/global",
        *(f"gradient_norm/{name}" for name in ("first", "second", "third")),
    )
    values = np.concatenate([np.linalg.norm(norms, axis=1, keepdims=True), norms], axis=1)
    record = records.Record(columns, np.arange(6) * 3, np.zeros(6, int), values, kind)
    assert record.nonfinite == NONFINITE[kind]


def growing(path, steps=5):
    """A file that a run has written in several parts."""
    record, writer = make(steps), CsvFile(path, "raw")
    for row in range(steps):
        writer.write(
            record.columns,
            *(part[row : row + 1] for part in (record.steps, record.epochs, record.values)),
        )
    return record, path.read_bytes()


def test_a_file_grows_line_by_line(tmp_path):
    record, _ = growing(tmp_path / "run.csv")
    assert_same(records.load(tmp_path / "run.csv"), record)


def continued(path, record, **arguments):
    """The contents of the file after another writer has written a `Record` to it."""
    CsvFile(path, "raw", **arguments).write(
        record.columns, record.steps, record.epochs, record.values
    )
    return records.load(path)


def test_a_file_that_is_there_is_set_aside_with_a_warning(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("something else")
    with pytest.warns(UserWarning, match=r"run.csv was renamed to .*run.old.csv, .*append=True"):
        assert_same(continued(path, make()), make())
    assert (tmp_path / "run.old.csv").read_text() == "something else"
    assert_same(continued(path, make(3), append=False), make(3))


@pytest.mark.parametrize("arguments", [{"append": True}, {"resumed": True}])
def test_a_file_goes_on(arguments, tmp_path):
    path, record = tmp_path / "run.csv", make(10)
    record.rows(slice(0, 6)).to_csv(path)
    assert CsvFile(path, "raw", **arguments).next_step == record.steps[5] + 1
    assert_same(continued(path, record.rows(slice(6, None)), **arguments), record)


def test_a_file_goes_on_in_its_own_order_of_columns(tmp_path):
    path, record = tmp_path / "run.csv", make(10)
    record.rows(slice(0, 6)).to_csv(path)
    order = np.random.default_rng(0).permutation(len(COLUMNS))
    columns = tuple(COLUMNS[place] for place in order)
    shuffled = dataclasses.replace(record, columns=columns, values=record.values[:, order])
    assert_same(continued(path, shuffled.rows(slice(6, None)), resumed=True), record)


@pytest.mark.parametrize("incomplete", ["", "15,2,ra"])
def test_steps_that_are_trained_again_are_recorded_anew(incomplete, tmp_path):
    path, record = tmp_path / "run.csv", make(10)
    record.rows(slice(0, 6)).to_csv(path)
    path.write_text(path.read_text() + incomplete)
    with pytest.warns(
        UserWarning, match=r"continues from step 12. The 2 recorded steps from that step on"
    ):
        found = continued(path, record.rows(slice(4, None)), resumed=True)
    assert_same(found, record)


@pytest.mark.parametrize(
    "change", [{"columns": ("gradient_norm/global", "gradient_norm/x")}, {"kind": "applied"}]
)
def test_a_file_of_another_run_does_not_go_on(change, tmp_path):
    path, record = tmp_path / "run.csv", make(4)
    values = record.values[:, : len(change.get("columns", COLUMNS))]
    other = dataclasses.replace(record, **{**change, "values": values})
    other.to_csv(path)
    with pytest.raises(
        ValueError,
        match=r"run.csv cannot be continued: .*Record the same quantities as before, or name",
    ):
        continued(path, record, append=True)
    assert_same(records.load(path), other)
    with pytest.warns(
        UserWarning, match=r"was renamed to .*run.old.csv, .*: it is from another run"
    ):
        assert_same(continued(path, record, resumed=True), record)
    assert_same(records.load(tmp_path / "run.old.csv"), other)


def test_what_is_no_record_cannot_be_appended_to(tmp_path):
    (tmp_path / "run.csv").write_text("something else\n")
    with pytest.raises(ValueError, match="is no record of a training run"):
        CsvFile(tmp_path / "run.csv", "raw", append=True)
    assert (tmp_path / "run.csv").read_text() == "something else\n"


def test_a_killed_run_leaves_all_complete_lines(tmp_path):
    record, written = growing(tmp_path / "run.csv")
    lines = written.splitlines(keepends=True)
    killed = tmp_path / "killed.csv"
    for cut in (1, 2, len(lines[-1]) // 2, len(lines[-1]) - 1):
        killed.write_bytes(written[:-cut])
        with pytest.warns(
            UserWarning, match=r"killed.csv: the last line is incomplete and was dropped"
        ) as caught:
            loaded = records.load(killed)
        assert_same(loaded, record.rows(slice(0, 4)))
        assert caught[0].filename == __file__
    killed.write_bytes(b"".join(lines[:-1]))
    assert_same(records.load(killed), record.rows(slice(0, 4)))
    killed.write_bytes(lines[0])
    assert_same(records.load(killed), record.rows(slice(0, 0)))


def archive(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    return path.read_bytes()


def npz(path):
    make().to_npz(path)
    return path.read_bytes()


WRONG = {
    "empty": (lambda path: b"", "no complete line"),
    "of a run killed before its first step": (lambda path: b"\r\n", "first columns are"),
    "of another program": (
        lambda path: b"epoch,loss\r\n0,1.5\r\n",
        r"first columns are \['epoch', 'loss'\]",
    ),
    "with a line cut short": (
        lambda path: b"step,epoch,kind,a/b\r\n0,0,raw\r\n1,0,raw,2\r\n",
        "line 2 has 3 entries",
    ),
    "with words": (lambda path: b"step,epoch,kind,a/b\r\n0,0,raw,many\r\n", "many"),
    "binary": (lambda path: bytes(range(256)) + b"\n", "first columns are|NUL"),
    "an archive cut short": (lambda path: npz(path)[:-100], "no record"),
    "a damaged archive": (
        lambda path: npz(path).replace(b"values.npy", b"valves.npy"),
        "no record",
    ),
    "another archive": (lambda path: archive(path, x=np.zeros(3)), "columns"),
    "an archive of other shapes": (
        lambda path: archive(
            path, columns=["a/b"], steps=[0], epochs=[0], values=np.zeros((2, 1)), kind="raw"
        ),
        "1 steps of 1 columns",
    ),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.filterwarnings("ignore:.*the last line is incomplete")
def test_a_file_that_holds_something_else_is_refused(what, tmp_path):
    contents, message = WRONG[what]
    path = tmp_path / "run"
    path.write_bytes(contents(path))
    with pytest.raises(ValueError, match=message) as refused:
        records.load(path)
    assert f"{path} is no record of a training run" in str(refused.value)


def test_half_a_header_is_no_record(tmp_path):
    (tmp_path / "run.csv").write_text("step,epo")
    with (
        pytest.warns(UserWarning, match="incomplete"),
        pytest.raises(ValueError, match="no complete line"),
    ):
        records.load(tmp_path / "run.csv")


def test_a_file_that_cannot_be_read_or_written(tmp_path):
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(ValueError, match="cannot be read"):
            records.load(path)
    for path in (tmp_path / "missing" / "run.csv", tmp_path):
        for write in (make().to_csv, make().to_npz, lambda path: CsvFile(path, "raw")):
            with pytest.raises(ValueError, match="cannot be written"):
                write(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_an_os_error():
    record, writer = make(1), CsvFile("/dev/full", "raw")
    with pytest.raises(OSError, match="No space left"):
        writer.write(record.columns, record.steps, record.epochs, record.values)


def test_to_dataframe():
    pandas = pytest.importorskip("pandas")
    frame = make().to_dataframe()
    assert list(frame.columns) == list(COLUMNS)
    assert frame.index.names == ["step", "epoch"]
    np.testing.assert_array_equal(frame.to_numpy(), make().values)
    np.testing.assert_array_equal(frame.index.get_level_values("step"), make().steps)
    assert isinstance(frame.loc[3], pandas.DataFrame)


def test_to_dataframe_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        make().to_dataframe()


@pytest.mark.parametrize("keep", [None, 1, 4, 100])
@pytest.mark.parametrize("sizes", [(5,), (1, 1, 1, 1, 1), (2, 3), (3, 2)])
def test_a_series_keeps_the_newest_rows_and_the_means_of_all(keep, sizes):
    record, series = make(), records.Series(keep)
    assert np.isnan(series.newest) and np.isnan(series.means())
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        part = record.rows(slice(end - size, end))
        series.append(part.steps, part.epochs, part.values)
    assert_same(series.record(record.columns), record.rows(slice(-(keep or 5), None)))
    np.testing.assert_array_equal(series.newest, record.values[-1])
    finite = np.ma.masked_invalid(record.values)
    np.testing.assert_allclose(series.means(), finite.mean(axis=0).filled(np.nan))
    assert series.nonfinite == 0
    series.append([9], [2], np.array([[np.nan] * len(COLUMNS)]))
    assert series.nonfinite == 1
    series.begin_epoch()
    assert np.isnan(series.means()) and series.nonfinite == 0


def test_what_a_series_holds_is_bounded():
    series = records.Series(keep=10)
    for step in range(1000):
        series.append(np.array([step]), np.array([0]), np.ones((1, 2)))
    assert len(series._chunks) == 10


def test_long_names_are_shortened_at_their_beginning():
    assert records.shortened("encoder/dense", 13) == "encoder/dense"
    assert records.shortened("encoder/dense", 6) == "\u2026dense"

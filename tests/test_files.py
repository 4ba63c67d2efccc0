"""Files and folders are written completely or not at all."""

import pytest

from keras_surrogate import files


def test_a_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with files.replacing_file(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_on_an_error_the_old_file_stays(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), files.replacing_file(path) as unfinished:
        unfinished.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/file.txt", "."])
def test_where_no_file_can_be(name, tmp_path):
    with (
        pytest.raises(ValueError, match="cannot be written"),
        files.replacing_file(tmp_path / name),
    ):
        pass


def test_a_folder_takes_new_contents_and_keeps_others(tmp_path):
    for name in ("kept", "replaced"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "file").write_text("old")
    with files.replacing_folder(tmp_path / "out") as unfinished:
        (unfinished / "replaced").mkdir()
        (unfinished / "new.txt").write_text("new")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"kept", "replaced", "new.txt"}
    assert (tmp_path / "out" / "kept" / "file").read_text() == "old"
    assert not list((tmp_path / "out" / "replaced").iterdir())


def test_on_an_error_a_folder_is_as_before(tmp_path):
    with pytest.raises(OSError), files.replacing_folder(tmp_path / "out") as unfinished:
        (unfinished / "new.txt").write_text("half")
        raise OSError
    assert not list((tmp_path / "out").iterdir())


def test_nearest_folder(tmp_path):
    assert files.nearest_folder(tmp_path / "not" / "there") == tmp_path
    assert files.nearest_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["file", "file/below", "file/further/below"])
def test_a_folder_cannot_be_or_lie_below_a_file(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"cannot be a folder, because .*/file is a file; name another"
    ):
        files.check_folder(tmp_path / name)
    with pytest.raises(ValueError, match="is a file"), files.replacing_folder(tmp_path / name):
        pass
    assert (tmp_path / "file").read_text() == ""


def test_a_folder_that_cannot_be_made():
    with pytest.raises(ValueError, match="cannot be created"), files.replacing_folder("/proc/none"):
        pass


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    files.check_folder(tmp_path / "new" / "folder")
    monkeypatch.setattr(files.os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="cannot be written to"):
        files.check_folder(tmp_path / "new" / "folder")

import os
from pathlib import Path

import numpy as np
import pytest

from abi.api.kept import CALL, Keep, room
from abi.base.files import write_text


def asked(folder, **given):
    return Keep(folder, "train", [], given)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "parts"


def killed(folder):
    """Run a call that finishes a part and is killed; return what it found."""
    with room(asked(folder), list) as place:
        found = sorted(path.name for path in place.iterdir())
        write_text(place / "seed-1.json", "{}")
        raise KeyboardInterrupt(found)


def test_two_calls_at_once_do_not_share_a_folder(folder, refuses):
    with room(asked(folder), list):
        write_text(folder / "seed-1.json", "{}")
        with refuses("parts: another call keeps its parts there now"), room(asked(folder, steps=2), list):
            pass
        assert (folder / "seed-1.json").is_file()
    assert not folder.exists()


def test_the_same_call_goes_on_and_another_begins_anew(folder):
    for found in ([CALL], [CALL, "seed-1.json"]):
        with pytest.raises(KeyboardInterrupt) as told:
            killed(folder)
        assert told.value.args == (found,)
    with room(asked(folder, steps=2), list):
        assert [path.name for path in folder.iterdir()] == [CALL]


def test_what_was_made_reaches_the_caller_though_the_parts_cannot_be_deleted(folder, monkeypatch):
    folder.parent.joinpath("elsewhere").mkdir(parents=True)
    folder.symlink_to("elsewhere", target_is_directory=True)
    with room(asked(folder), list) as place:
        write_text(place / "seed-1.json", "{}")
    assert [*folder.parent.glob("elsewhere/*")] == []
    folder.unlink()
    monkeypatch.setattr(os, "rmdir", fails)
    with room(asked(folder), list) as place:
        write_text(place / "seed-1.json", "{}")


@pytest.mark.parametrize("place", ["link", "."])
def test_what_went_wrong_is_told_though_the_folder_cannot_be_deleted(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("link").symlink_to("there")
    monkeypatch.chdir("there" if place == "." else ".")
    with pytest.raises(ZeroDivisionError), room(asked(place), list):
        1 / 0  # noqa: B018


def test_a_kill_while_parts_are_deleted_leaves_a_folder_that_can_be_used(folder, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        killed(folder)
    unlinked = Path.unlink

    def killing(path, *args, **given):
        unlinked(path, *args, **given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killing)
        with pytest.raises(KeyboardInterrupt):
            room(asked(folder, steps=2), list).__enter__()
    assert (folder / CALL).is_file()
    with room(asked(folder, steps=2), list):
        pass


def test_numbers_of_numpy_are_numbers(tmp_path):
    assert asked(tmp_path, steps=np.int64(5), taps=[np.int32(1)]).call([]) == asked(tmp_path, steps=5, taps=[1]).call(
        []
    )


def fails(*_, **__):
    raise OSError("busy")


def test_a_folder_of_other_files_and_a_file_are_refused(folder, refuses):
    folder.mkdir()
    (folder / "thesis.md").write_text("years of work")
    with refuses("holds something else than finished parts"), room(asked(folder), list):
        pass
    with refuses("thesis.md: "), room(asked(folder / "thesis.md"), list):
        pass
    assert (folder / "thesis.md").read_text() == "years of work"

"""Data sets of the hub as texts."""

import pytest
from published import make_wikitext

from abi.base.errors import DataError
from abi.base.hub import Repository, data_files, look_up
from abi.plan.specs.text import HubData
from abi.text.sources import find_files


@pytest.fixture
def data(hub, cache, monkeypatch):
    """Pins a data set of the stand-in, which the client finds by `HF_ENDPOINT`; returns it as a source."""

    def pin(folder, pattern, **more):
        hub.add("dataset", "org/text", folder)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        found = look_up(Repository("org/text", "dataset"), None, data_files([pattern]))
        return HubData(kind="hub", id="org/text", pattern=pattern, revision=found.revision, files=found.files, **more)

    return pin


def test_files_are_read_through_the_links_of_the_cache(data, tmp_path):
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    (folder / "b.txt").write_text("text\n")
    (folder / "c.csv").write_text("1\n")
    (file,) = find_files(data(tmp_path / "data", "**/*.txt"))
    assert (file.name, file.path.read_text()) == ("org/text/a/b.txt", "text\n")


def test_a_data_set_that_cannot_be_downloaded_is_one_sentence(data, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.txt").write_text("text\n")
    source = data(tmp_path / "data", "*.txt")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=f"corpus source org/text@{source.revision}: cannot be downloaded .HF_HUB_OFF"):
        find_files(source)


def test_a_data_set_without_such_files_is_one_sentence(data, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.csv").write_text("text\n")
    with pytest.raises(DataError, match="corpus source org/text: holds no file that is needed"):
        data(tmp_path / "data", "*.txt")


def test_wikitext_gives_articles(data, tmp_path):
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    pattern = "wikitext-2-raw-v1/*.parquet"
    source = data(make_wikitext(tmp_path / "data", articles=9), pattern, column="text", heading="^ = [^=].* = $")
    files = find_files(source)
    assert len(files) == 9
    assert all(file.text.startswith(" = Title ") for file in files)

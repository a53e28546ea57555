"""A stand-in of the hub with tiny models, and an empty cache of the hub's client."""

import pytest
from hub_server import Hub, serving
from published import make_model


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Makes the files of a published repository, once per session."""
    known = {}

    def make(repo_id):
        if repo_id not in known:
            known[repo_id] = make_model(repo_id, tmp_path_factory.mktemp("made") / repo_id)
        return known[repo_id]

    return make


@pytest.fixture
def hub():
    """A stand-in of the hub, empty."""
    with serving(Hub()) as served:
        yield served


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's client, no token, no proxy, no waiting between tries."""
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "*")
    close_session()
    yield tmp_path / "cache"
    close_session()

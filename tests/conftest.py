import pytest


@pytest.fixture(scope="session")
def jets(tmp_path_factory):
    """The folder of a made-up study of jets: ensemble, posterior, unfolded distributions."""
    # Tests of other packages collect without loading it.
    from unfolded_results import write_results

    folder = tmp_path_factory.mktemp("jets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_results(folder)
    return folder


@pytest.fixture
def study(jets, monkeypatch):
    """The same, as the working directory."""
    monkeypatch.chdir(jets)
    return jets

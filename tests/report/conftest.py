import pytest
from report_inputs import make_inputs
from unfolded_results import write_results

from pullback.report.page import write_report


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The whole made-up study: inputs, and the arguments that its page was written with."""
    folder = tmp_path_factory.mktemp("report")
    inputs = make_inputs(folder)
    arguments = inputs.arguments(folder)
    write_report(**arguments)
    return inputs, arguments


@pytest.fixture(scope="session")
def jets(tmp_path_factory):
    """The folder of a made-up study of jets: ensemble, posterior, unfolded distributions."""
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

import pytest
from report_inputs import make_inputs

from pullback.report.page import write_report


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The whole made-up study: inputs, and the arguments that its page was written with."""
    folder = tmp_path_factory.mktemp("report")
    inputs = make_inputs(folder)
    arguments = inputs.arguments(folder)
    write_report(**arguments)
    return inputs, arguments

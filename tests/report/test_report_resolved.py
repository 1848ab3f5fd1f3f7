"""One folder of results holds the resolved study of one config."""

import json

from pullback.report.files import write_resolved


def test_the_study_of_another_config_is_removed(tmp_path):
    for name in ("study-aa.json", "study-bb.json"):
        write_resolved('{"seed": 5}', tmp_path / name)
    (tmp_path / "receipt.json").touch()
    write_resolved('{"seed": 7}', tmp_path / "study-aa.json")
    assert {path.name for path in tmp_path.iterdir()} == {"study-aa.json", "receipt.json"}
    assert json.loads((tmp_path / "study-aa.json").read_text()) == {"seed": 7}

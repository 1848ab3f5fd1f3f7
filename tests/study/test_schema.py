import json

import pytest
import yaml

from pullback.study.schema import schema_text, study_schema

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture
def check():
    return jsonschema.Draft202012Validator(study_schema())


def test_the_schema_file_is_what_the_models_say(repository):
    """When this fails: make schema."""
    assert (repository / "workflow/schemas/study.schema.json").read_text() == schema_text()


def test_every_study_of_the_repository_agrees_with_it(repository, check):
    studies = [repository / "config/config.yaml"]
    studies += (repository / "config/studies").glob("*.yaml")
    studies += (repository / "tests/workflow/studies").glob("*.yaml")
    assert len(studies) > 3
    for study in studies:
        errors = [error.message for error in check.iter_errors(yaml.safe_load(study.read_text()))]
        assert errors == [], study


def test_a_wrong_key_disagrees(repository, check):
    study = yaml.safe_load((repository / "tests/workflow/studies/tiny.yaml").read_text())
    assert check.is_valid(study)
    assert not check.is_valid({**study, "sede": 1})
    study["problems"]["line"]["familys"] = {}
    assert not check.is_valid(study)


def test_every_option_says_what_it_is():
    """Editors show descriptions: the larger groups have one, as a docstring."""
    named = {name for name, model in study_schema()["$defs"].items() if "description" in model}
    assert {"GaussianProblem", "FwiProblem", "UnfoldingProblem", "Cfm", "EiFm", "EnKG", "Train", "Family"} <= named
    assert json.loads(schema_text())["title"] == "A pullback study"

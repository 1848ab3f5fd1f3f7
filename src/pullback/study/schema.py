"""The JSON schema of a study file, made from the models: editors complete and check a study with it.

``python -m pullback.study.schema`` writes ``workflow/schemas/study.schema.json``, which has the built-in kinds; a test
fails when it is out of date. ``python -m pullback.study.schema FILE`` writes a schema that has the kinds of installed
packages too. A study names its schema in the first line:
``# yaml-language-server: $schema=../workflow/schemas/study.schema.json``.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pullback import registry
from pullback.study.model import Study

SCHEMA = Path("workflow/schemas/study.schema.json")


def study_schema() -> dict[str, Any]:
    """The schema (JSON Schema draft 2020-12) with the descriptions of the models."""
    schema = Study.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "study.schema.json",
        **schema,
        "title": "A pullback study",
    }


def schema_text() -> str:
    """The text of the schema file."""
    return json.dumps(study_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema of the repository, or that of this environment to the path that is given."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SCHEMA
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with nullcontext() if len(sys.argv) > 1 else registry.built_in_only():
        temporary.write_text(schema_text())
    temporary.replace(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

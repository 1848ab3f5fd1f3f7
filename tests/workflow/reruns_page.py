"""What docs/reruns.md says, for the tests that execute it."""

import re
import shlex
from typing import NamedTuple

from dag import REPOSITORY

TEXT = (REPOSITORY / "docs/reruns.md").read_text()
GROUPS = {
    "training": {"train", "prior"},
    "inference": {"infer", "evaluate"},
    "pages": {"resolve", "report", "receipt"},
}
IN_PARTS = "index_posterior"
"""Belongs to the answers of inferences that are in parts."""


def rows(first: str) -> dict[str, str]:
    """The first two cells of every row of the tables whose first column is called ``first``."""
    found: dict[str, str] = {}
    inside = False
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if not cells:
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and set(cells[0]) != {"-"}:
            assert len(cells) >= 2, line
            assert cells[0] not in found, f"two rows for {cells[0]}"
            found[cells[0]] = cells[1]
    return found


def named_rules(cell: str, everything: set[str]) -> set[str]:
    """The rules that a cell of the table names; nothing else may stand there."""
    if cell == "nothing":
        return set()
    found: set[str] = set()
    for word in cell.split(", "):
        if word == "*everything*":
            found |= everything
        elif word.startswith("*"):
            found |= GROUPS[word.strip("*")]
        else:
            assert re.fullmatch(r"`\w+`", word), f"{word} in '{cell}' is no rule"
            found.add(word.strip("`"))
    return found


class Example(NamedTuple):
    """A command of the document, and the jobs that it is said to run."""

    command: tuple[str, ...]
    jobs: dict[str, int]


def examples() -> list[Example]:
    """Every command that stands under a comment ``# runs: 2 infer, 1 evaluate``."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.M | re.S):
        for said, command in re.findall(r"^# runs: (.*)\n((?:.*\\\n)*.*)$", block, flags=re.M):
            pairs = [part.split() for part in said.split(", ")] if said != "nothing" else []
            found.append(
                Example(tuple(shlex.split(command.replace("\\\n", " "))), {rule: int(count) for count, rule in pairs})
            )
    return found

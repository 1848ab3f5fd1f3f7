"""Studies damaged by chance: bytes, lines, and values of the study as such. One seed gives one study."""

import copy
import random
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
WHOLE = sorted(
    [*(REPOSITORY / "config/studies").glob("*.yaml"), *(REPOSITORY / "tests/workflow/studies").glob("*.yaml")]
)

ODD: list[Any] = [
    *(None, True, 0, -1, 1, 7, 10**12, 10**30, -(2**63), 0.5, -0.5, 1e308, 1e-308, float("inf"), float("nan")),
    *("", " ", "nan", "inf", "no", "1e-1", "x" * 5000, "a\nb", "\u202e", "é", "../up", "a/b", "{w}", "${HOME}", "*.h5"),
    *("./none.py:No", "decay.py:Nothing", "cfm", "gaussian", "$PULLBACK_DATA/none.npy", "file.root:Events"),
    *([], {}, [[]], [None], [1, "a"], [0, 1], [1, 0], {"uniform": [1, 0]}, {"uniform": []}, {"kind": "cfm"}, {"a": {}}),
    *(
        {"kind": ["cfm"]},
        [{"a": 1}] * 3,
        {str(i): i for i in range(50)},
        {"x.json": 1},
        {1: 2},
        {True: 1},
        {None: None},
    ),
]
"""Values that no key or hardly one can have."""

NUMBERS: list[Any] = [*(0, 1, 2, 3, 17, 1000, 10**7, 10**12, 10**19, 10**40, -1), *(0.0, 0.1, 1.5, 1e-30, 1e30, -2.5)]


def damage(seed: int) -> tuple[str, bytes]:
    """Name of a study and the bytes of its file, damaged."""
    rng = random.Random(seed)
    path = rng.choice(WHOLE)
    text = path.read_bytes()
    kind = rng.choice([_bytes, _cut, _lines, _values, _values, _values])
    return path.name, kind(text, rng)


def _bytes(text: bytes, rng: random.Random) -> bytes:
    changed = bytearray(text)
    for _ in range(rng.choice([1, 1, 3, 30])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut(text: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.sample(range(len(text) + 1), 2))
    return rng.choice([text[:start], text[start:], text[:start] + text[end:], text[:end] + text[start:]])


def _lines(text: bytes, rng: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice([1, 1, 3])):
        at, other = rng.randrange(len(lines)), rng.choice(lines)
        lines[at : at + 1] = rng.choice(
            [
                [other, lines[at]],
                [b"  " + lines[at]],
                [lines[at].lstrip()],
                [other.strip() + b" " + lines[at]],
                [] if len(lines) > 1 else [b""],
            ]
        )
    return b"".join(lines)


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Every block or list with each of its keys or numbers."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [(node, key) for key in keys] + [place for key in keys for place in _places(node[key])]


def _values(text: bytes, rng: random.Random) -> bytes:
    study = yaml.safe_load(text)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        node, key = rng.choice(_places(study) or [({"a": 1}, "a")])
        numbers = [(n, k) for n, k in _places(study) if isinstance(n[k], int | float) and k != "config_version"]
        action = rng.choice(["number", "number", "number", "odd", "odd", "remove", "rename", "other"])
        if action == "number" and numbers:
            node, key = rng.choice(numbers)
            node[key] = rng.choice(NUMBERS)
        elif action == "odd":
            node[key] = copy.deepcopy(rng.choice(ODD))
        elif action == "remove":
            del node[key]
        elif action == "rename" and isinstance(node, dict):
            node[rng.choice(["kind", "x", "", "a b", "seen", "test", "a.cost", 3, False])] = node.pop(key)
        else:
            other, name = rng.choice(_places(study) or [(node, key)])
            node[key] = copy.deepcopy(other[name]) if key in node or isinstance(node, list) else 1
    return yaml.safe_dump(study, allow_unicode=True, sort_keys=False).encode()

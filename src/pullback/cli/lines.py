"""Line numbers of keys in a YAML file."""

from pathlib import Path
from typing import NamedTuple

import yaml

Key = tuple[str, ...]
MERGE = "tag:yaml.org,2002:merge"


class Place(NamedTuple):
    """A line of the file, and whether the key itself is there (or only its parent)."""

    line: int
    is_there: bool


class Lines:
    """Line numbers of the keys of a file; a value given by an alias has the line of its anchor.

    Args:
        path: a YAML file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)

    def find(self, key: Key) -> Place:
        """The line of a key, given by its path."""
        node, line = self._root, 1
        for name in key:
            pair = _pair(node, name)
            if pair is None:
                return Place(line, False)
            mark, node = pair[0].start_mark, pair[1]
            # The value of an alias has been read before its key.
            line = min(mark.line, node.start_mark.line) + 1
        return Place(line, True)

    def has(self, key: Key) -> bool:
        """Whether the file gives this key."""
        return self.find(key).is_there

    def say(self, key: Key) -> str:
        """``(config/config.yaml:41)``; a key that is not in the file has its default."""
        line, is_there = self.find(key)
        return f"({self.path}:{line})" if is_there else f"(the default; not given under {self.path}:{line})"


def _pair(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and name.isdigit() and int(name) < len(node.value):
        return node.value[int(name)], node.value[int(name)]
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value == name and key.tag != MERGE:
            return key, value
    for key, value in node.value:
        if key.tag == MERGE:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if pair := _pair(merged, name):
                    return pair
    return None

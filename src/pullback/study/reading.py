"""A study's YAML as plain values; what versions of YAML read differently is refused, with line and what to write."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

MOST_VALUES = 1_000_000
"""Anchors can unfold a file of a few lines to billions of values."""


class StudyError(ValueError):
    """An invalid study; the message names the file, the key, what was found and what is allowed."""


class _Loader(yaml.SafeLoader):
    """Plain scalars as PyYAML has them, but for ``1e-1``, which is a number, and dates and ``=``, which are text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":value"))]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> Any:
    """The values of a YAML file; keys are their text as it is written.

    Raises:
        StudyError: in one line, whatever is wrong with the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); give the path of a study's YAML file") from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x}"
        raise StudyError(f"{path}, line {line}: {found} is not UTF-8: save the file in UTF-8") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """The values of a YAML text.

    Args:
        text: one document.
        source: what messages call it.

    Raises:
        StudyError: in one line, whatever is wrong with it.
    """
    try:
        return _Values(text, source).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        why = ", ".join(filter(None, (error.context, error.problem)))
        raise StudyError(f"{source}{line}: not valid YAML: {why}") from None
    except yaml.reader.ReaderError as error:
        line = f", line {text.count(chr(10), 0, error.position) + 1}"
        found = f"the character U+{ord(text[error.position]):04X}"
        raise StudyError(f"{source}{line}: {found} may not stand in YAML: take it out") from None
    except RecursionError:
        raise StudyError(f"{source}: blocks in blocks beyond what can be read: take levels out") from None


class _Values:
    """Plain values of one text."""

    def __init__(self, text: str, source: str):
        self.loader, self.source, self.count = _Loader(text), source, 0

    def read(self) -> Any:
        node = self.loader.get_single_node()
        return None if node is None else self.value(node, ())

    def refuse(self, node: yaml.Node, why: str) -> StudyError:
        return StudyError(f"{self.source}, line {node.start_mark.line + 1}: {why}")

    def value(self, node: yaml.Node, above: tuple[yaml.Node, ...]) -> Any:
        self.count += 1
        if self.count > MOST_VALUES:
            raise self.refuse(node, f"anchors unfold to more than {MOST_VALUES} values: write out what is meant")
        if node in above:
            raise self.refuse(node, "a block that contains itself: take the alias (*) out of the block it is of")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise self.refuse(node, f"the tag {_tag(node)} has no meaning in a study: take it out")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*above, node)) for item in node.value]
        return self.mapping(node, (*above, node))

    def mapping(self, node: yaml.MappingNode, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        lines: dict[str, int] = {}
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.refuse(key, "a key is a list or a block, wanted a name")
            if key.tag == "tag:yaml.org,2002:merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(part, yaml.MappingNode):
                        raise self.refuse(key, "`<<` merges blocks, found another value")
                    found = self.value(part, above) | found
                continue
            name, line = key.value, key.start_mark.line + 1
            if name in lines:
                raise StudyError(
                    f"{self.source}: the key '{name}' stands twice, on lines {lines[name]} and {line}; keep one"
                )
            lines[name] = line
            found[name] = self.value(value, above)
        return found

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        if node.style is None and (instead := _two_readings(node)):
            raise self.refuse(node, f"`{text}` is read in two ways by versions of YAML: write {instead}")
        try:
            value = self.loader.construct_object(node)
        except yaml.constructor.ConstructorError:
            raise self.refuse(node, f"the tag {_tag(node)} has no meaning in a study: take it out") from None
        except (ValueError, KeyError, AttributeError):
            raise self.refuse(node, f"`{text[:40]}` cannot be read as {_tag(node)}: write another value") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self.refuse(node, f"`{text[:40]}` is no finite number: write one, or leave the key out")
        if not isinstance(value, str | int | float | None):
            raise self.refuse(node, f"the tag {_tag(node)} has no meaning in a study: take it out")
        return value


def _tag(node: yaml.Node) -> str:
    return node.tag.replace("tag:yaml.org,2002:", "!!")


def _two_readings(node: yaml.ScalarNode) -> str:
    """What to write instead of a scalar whose meaning depends on the version of YAML; nothing for any other."""
    text, quoted = node.value, f"'{node.value}' in quotes for text"
    if text.lower() in ("yes", "on", "no", "off"):
        return f"{'true' if text.lower() in ('yes', 'on') else 'false'}, or {quoted}"
    if re.fullmatch(r"[-+]?0[0-9]+", text):
        octal = f", {int(text, 8)} if it is octal" if re.fullmatch(r"[-+]?0[0-7]+", text) and int(text) else ""
        return f"{int(text)}{octal}, or {quoted}"
    if re.fullmatch(r"[-+]?0o[0-7]+", text):
        return f"{int(text, 8)}, or {quoted}"
    if ":" in text and node.tag.endswith((":int", ":float")):
        return f"{yaml.SafeLoader('').construct_yaml_float(node):g}, or {quoted}"
    return ""


def check_plain(value: Any, source: str, at: str = "") -> None:
    """Refuse values of a config from Python that no file could hold.

    Raises:
        StudyError: naming the first key of such a value.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StudyError(f"{source} cannot run:\n  {at or 'the config'}: the key {key!r} is no text: quote it")
            check_plain(item, source, f"{at}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_plain(item, source, f"{at}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise StudyError(f"{source} cannot run:\n  {at}: {value} is no finite number: write one, or leave the key out")
    elif not isinstance(value, str | int | float | None):
        raise StudyError(f"{source} cannot run:\n  {at}: {value!r:.80} is of type {type(value).__name__}, wanted plain")


def from_command_line(entries: Iterable[str]) -> dict[str, Any]:
    """The keys of ``--config``, read as in a file.

    Raises:
        StudyError: a key is given twice, or its value cannot be read.
    """
    found: dict[str, Any] = {}
    for entry in entries:
        key, _, text = entry.partition("=")
        if key in found:
            raise StudyError(f"--config gives the key '{key}' twice: keep one")
        found[key] = parse_yaml(text, f"--config {key}")
    return found


def refuse_repeated_flags(argv: Iterable[str]) -> None:
    """Refuse ``--configfile`` or ``--config`` given twice: Snakemake takes the last alone.

    Raises:
        StudyError: naming the option.
    """
    words: list[str] = []
    for word in argv:
        if word == "--":
            break
        words.append(word.partition("=")[0])
    for option, names in (("--configfile", ("--configfile", "--configfiles")), ("--config", ("--config", "-C"))):
        if sum(word in names for word in words) > 1:
            more = "a study is one file" if option == "--configfile" else "give all keys behind one --config"
            raise StudyError(f"{option} stands twice, and Snakemake takes the last alone: {more}")

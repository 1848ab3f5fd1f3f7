"""A study read from YAML and checked before any job starts."""

from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pullback.registry import did_you_mean
from pullback.study.model import Study
from pullback.study.reading import StudyError, check_plain, read_yaml
from pullback.study.validation import errors

CONFIG_VERSION = 2

SHOWN, LONGEST = 20, 900


def _clean_path(raw: Any, location: tuple[str | int, ...], missing: bool) -> str:
    """The path of a key as it stands in the file, or would: pieces that are tags of a union are not in it."""
    parts: list[str] = []
    node = raw
    for part in location:
        if isinstance(node, dict) and part in node:
            node = node[part]
            parts.append(str(part))
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
            parts.append(f"[{part}]")
        elif missing and part == location[-1]:
            parts.append(str(part))
    return ".".join(parts).replace(".[", "[")


RENAMED = {
    "take": "events_from: <family>",
    "otherwise": "fallback: <family>",
    "judging": "evaluation",
    "border_cells": "absorbing_cells",
    "corners": "lowpass_hz",
    "targets": "loss_members",
    "sets": "sets_per_step",
    "tilt": "prior_reweighting",
    "block_collisions": "block",
}
"""Keys of config_version 1, and what they are called now."""


def _explain(raw: Any, source: str, error: ValidationError) -> str:
    """One line for each thing that is wrong, by its place in the file."""
    lines = []
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        # A union's tag stands in the path of an error and not in the file; so does a key that is missing.
        keep_last = item["type"] in ("missing", "missing_kind")
        where = _clean_path(raw, location, keep_last) or "the file"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "unknown_key":
            now = RENAMED.get(str(location[-1]))
            message = f"renamed to `{now}` in config_version {CONFIG_VERSION}" if now else message
        elif item["type"] in ("model_type", "model_attributes_type"):
            # Settings of an inference stand under its name.
            named = f", by name: infer: {{default: {{{location[-1]}: ...}}}}" if location[-2:-1] == ("infer",) else ""
            message = f"wanted a block of options{named} (found {item['input']!r:.80})"
        elif item["type"] == "missing":
            message = "this key is needed and is not there"
        elif item["type"] == "union_tag_invalid":
            expected = str(item.get("ctx", {}).get("expected_tags", "")).replace("'", "")
            found = str(item.get("ctx", {}).get("tag", ""))
            where = f"{where}.kind"
            message = f"found '{found}', allowed: {expected}{did_you_mean(found, expected.split(', '))}"
        elif item["type"] == "union_tag_not_found":
            where, message = f"{where}.kind", "this key is needed and is not there"
        elif item["type"] not in ("kind", "missing_kind") and not isinstance(item["input"], dict):
            message = f"{message} (found {item['input']!r:.80})"
        lines.append(f"  {where}: {message}")
    return _refusal(source, list(dict.fromkeys(lines)))


def _refusal(source: str, lines: list[str]) -> str:
    """The message with the first things that are wrong: one mistake may be many lines, and what was found long."""
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    short = (line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}" for line in lines)
    return "\n".join([f"{source} cannot run:", *islice(short, SHOWN), *more])


def load_study(raw: dict[str, Any], folder: Path | str = ".", source: str = "the study") -> Study:
    """Check a config and return the study.

    Args:
        raw: the config as read from YAML.
        folder: the folder of the config file; simulators given by path are relative to it.
        source: the name of the file, for messages.

    Raises:
        StudyError: with one line for each error.
    """
    if not isinstance(raw, dict):
        holds = "is empty" if raw is None else f"holds {type(raw).__name__}"
        raise StudyError(f"{source} cannot run:\n  the file {holds}, wanted a mapping of keys")
    check_plain(raw, source)
    found = raw.get("config_version")
    if found is not None and found != CONFIG_VERSION:
        raise StudyError(
            f"{source} cannot run:\n  config_version: found {found!r}, this pullback reads {CONFIG_VERSION}; in "
            f"version {CONFIG_VERSION} keys have new names: {', '.join(f'{a} -> {b}' for a, b in RENAMED.items())}"
        )
    try:
        study = Study.model_validate(raw, context={"folder": str(folder)})
    except ValidationError as error:
        raise StudyError(_explain(raw, source, error)) from None
    lines = list(errors(study))
    if lines:
        raise StudyError(_refusal(source, [f"  {line}" for line in lines]))
    return study


def read_study(path: Path | str) -> Study:
    """Read and check one study file."""
    path = Path(path)
    return load_study(read_yaml(path), path.parent, str(path))

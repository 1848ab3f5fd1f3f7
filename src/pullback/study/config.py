"""A study read from YAML and checked before any job starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from pullback.study.base import did_you_mean
from pullback.study.model import Study
from pullback.study.validation import errors

CONFIG_VERSION = 2


class StudyError(ValueError):
    """A study that cannot run; the message names the file, the key, what was found and what is allowed."""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models(argument)


def _step(model: Any, part: str | int) -> Any:
    """The model under one piece of an error path, or the same model where the piece is a union's tag or an index."""
    if isinstance(model, list):
        tagged = [m for m in model if _tag(m) == part or m.__name__ == part]
        if tagged:
            return tagged[0]
        return model if len(model) > 1 else _step(model[0], part)
    if isinstance(part, str) and part in model.model_fields:
        annotation = model.model_fields[part].annotation
        found = list(_models(annotation))
        if not found:
            return None
        is_mapping = "dict" in str(annotation)
        return _Mapping(found) if is_mapping else (found[0] if len(found) == 1 else found)
    return model


class _Mapping(list):
    """The models of a mapping's values: the next piece of the path is a name of the user's."""


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    arguments = get_args(kind.annotation) if kind else ()
    if kind and not arguments:
        return "custom"
    return arguments[0] if arguments and isinstance(arguments[0], str) else None


def _allowed_keys(path: tuple[str | int, ...]) -> list[str]:
    model: Any = Study
    for part in path:
        if isinstance(model, _Mapping):
            options = list(model)
            model = options[0] if len(options) == 1 else options
            continue
        model = _step(model, part)
        if model is None:
            return []
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


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


def _explain(raw: Any, source: str, error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        where = _clean_path(raw, location, item["type"] == "missing") or "the file"
        if item["type"] == "extra_forbidden":
            allowed = _allowed_keys(location[:-1])
            hint = did_you_mean(str(location[-1]), allowed)
            known = f" Allowed here: {', '.join(allowed)}." if allowed else ""
            lines.append(f"  {where}: unknown key{hint}{known}")
        elif item["type"] == "union_tag_invalid":
            expected = str(item.get("ctx", {}).get("expected_tags", "")).replace("'", "")
            found = str(item.get("ctx", {}).get("tag", ""))
            hint = did_you_mean(found, expected.split(", "))
            lines.append(f"  {where}.kind: found '{found}', allowed: {expected}{hint}")
        elif item["type"] == "union_tag_not_found":
            lines.append(f"  {where}.kind: this key is needed and is not there (config/README.md lists the kinds)")
        elif item["type"] == "missing":
            lines.append(f"  {where}: this key is needed and is not there")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"  {where}: {message} (found {item['input']!r:.80})")
    return f"{source} cannot run:\n" + "\n".join(dict.fromkeys(lines))


def load_study(raw: dict[str, Any], folder: Path | str = ".", source: str = "the study") -> Study:
    """Check a config and return the study.

    Args:
        raw: the config as read from YAML.
        folder: the folder of the config file; simulators given by path are relative to it.
        source: the name of the file, for messages.

    Raises:
        StudyError: with one line for each thing that is wrong.
    """
    if not isinstance(raw, dict):
        raise StudyError(f"{source} cannot run:\n  the file holds {type(raw).__name__}, wanted a mapping of keys")
    found = raw.get("config_version")
    if found is not None and found != CONFIG_VERSION:
        raise StudyError(
            f"{source} cannot run:\n  config_version: found {found!r}, this pullback reads {CONFIG_VERSION}"
        )
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(_explain(raw, source, error)) from None
    lines = list(errors(study, Path(folder)))
    if lines:
        raise StudyError(f"{source} cannot run:\n" + "\n".join(f"  {line}" for line in lines))
    return study


def _unique_keys(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: dict[Any, yaml.Mark] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=deep)
        if key in seen:
            raise StudyError(
                f"{key_node.start_mark.name}: the key '{key}' stands twice, on lines {seen[key].line + 1} and "
                f"{key_node.start_mark.line + 1}; keep one"
            )
        seen[key] = key_node.start_mark
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep)


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error instead of a silent overwrite."""


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_keys)


def read_study(path: Path | str) -> Study:
    """Read and check one study file; `study` must be the file's stem (any name in `config.yaml`, the default)."""
    path = Path(path)
    try:
        with path.open() as stream:
            raw = yaml.load(stream, _Loader)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); give the path of a study's YAML file") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    study = load_study(raw, path.parent, str(path))
    check_stem(study, path)
    return study


def check_stem(study: Study, path: Path | str) -> None:
    """A study's name is its file's stem, so that two files never share a results folder."""
    stem = Path(path).stem
    if stem not in (study.study, "config"):
        raise StudyError(
            f"{path}: study is '{study.study}', wanted '{stem}', the stem of the file (or rename the file)"
        )

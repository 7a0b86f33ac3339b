"""A site file as a document, and where each value of it is written."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from xds_agent.model.problems import ModelError, Problem


def read_document(path: Path, shown: str) -> tuple[dict[str, Any], dict[str, str]]:
    """(document, {path of a value: 'file:line:column'}). Raises ModelError when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.yaml"))) or "none"
        raise _unreadable(shown, "there is no such site file", f"sites that are there: {known}") from error
    except UnicodeDecodeError as error:
        raise _unreadable(shown, f"the site file is not UTF-8: {error.reason}", "save it as UTF-8") from error
    except OSError as error:
        raise _unreadable(
            shown, f"the site file cannot be read: {error.strerror}", "check its owner and mode"
        ) from error
    return parse_document(text, shown)


def parse_document(text: str, shown: str) -> tuple[dict[str, Any], dict[str, str]]:
    """As `read_document`, of a text that is at hand; ``shown`` names it in messages."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise _unreadable(shown, "the site file is empty", "begin with name:, ssh: and clouds:")
        origins: dict[str, str] = {}
        document = _value(loader, node, "", origins, shown)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark else shown
        words = str(error.problem or error.context or "syntax error")
        raise _unreadable(where, f"YAML: {words}", "see this line and the one before it") from error
    except RecursionError as error:
        fix = "let no anchor (&name) hold itself (*name)"
        raise _unreadable(shown, "the site file has no end: something in it holds itself", fix) from error
    finally:
        loader.dispose()
    if not isinstance(document, dict):
        raise _unreadable(shown, "the site file is not a mapping", "begin with name:, ssh: and clouds:")
    return document, origins


def _unreadable(origin: str, message: str, fix: str) -> ModelError:
    return ModelError([Problem(path="", message=message, fix=fix, origin=origin)])


def _value(loader: yaml.SafeLoader, node: yaml.Node, path: str, origins: dict[str, str], shown: str) -> Any:
    # The prefix is what xds_agent.model.site.find_origin looks for.
    key = f"edge.{path}" if path else "edge"
    origins[key] = f"{shown}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, origins, shown)
    if isinstance(node, yaml.SequenceNode):
        return [
            _value(loader, item, f"{path}[{_item_name(item, index)}]", origins, shown)
            for index, item in enumerate(node.value)
        ]
    return loader.construct_object(node, deep=True)


def _mapping(
    loader: yaml.SafeLoader, node: yaml.MappingNode, path: str, origins: dict[str, str], shown: str
) -> dict[Hashable, Any]:
    _refuse_twice(node)
    # What is merged by << comes first, so that a key of the mapping's own takes its place.
    loader.flatten_mapping(node)
    found: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        inner = f"{path}.{key}" if path else str(key)
        found[key] = _value(loader, value_node, inner, origins, shown)
        mark = key_node.start_mark
        origins[f"edge.{inner}"] = f"{shown}:{mark.line + 1}:{mark.column + 1}"
    return found


def _refuse_twice(node: yaml.MappingNode) -> None:
    """Raises MarkedYAMLError for a key that stands twice in one mapping: the first would be lost."""
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.MarkedYAMLError(
                problem=f"key '{key.value}' is there twice (the first would be lost)",
                problem_mark=key.start_mark,
            )
        seen.add(str(key.value))


def _item_name(item: yaml.Node, index: int) -> str | int:
    """The name of a list item that has one, as `path_of` shows it."""
    if isinstance(item, yaml.MappingNode):
        for key, value in item.value:
            if key.value == "name" and isinstance(value, yaml.ScalarNode):
                return str(value.value)
    return index

"""Reads the files of the edge: edge.yml, edge/**/*.yml, and edge/overlays/**/*.yml last."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.yaml.loader import AnsibleLoader
from ansible.template import trust_as_template
from ansible_collections.marchproxy.edge.plugins.module_utils.edge_merge import Merger, problem
from ansible_collections.marchproxy.edge.plugins.module_utils.origins import origin_of, shown_path

FOLDER = "edge"
OVERLAYS = "overlays"
_SUFFIXES = (".yml", ".yaml", ".json")


class Unreadable(Exception):
    """A file that cannot be used at all; ``problem`` says why."""

    def __init__(self, path, message, fix, line=None, column=None):
        super().__init__(message)
        origin = shown_path(path)
        if line:
            origin += f":{line}:{column or 1}"
        self.problem = problem("", message, fix, origin)


def files_below(folder):
    """(ordinary files, overlay files) below ``folder``, each sorted by path."""
    plain, overlays = [], []
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = (Path(where).relative_to(folder).parts or ("",))[0]
        for name in sorted(names):
            if name.startswith((".", "~", "#")) or not name.endswith(_SUFFIXES):
                continue
            (overlays if inside == OVERLAYS else plain).append(str(Path(where) / name))
    return plain, overlays


def read_file(loader, path):
    """(document, was encrypted). Vault, Jinja and origins work. Raises Unreadable."""
    try:
        text = loader.get_text_file_contents(path)
    except AnsibleError as error:
        raise Unreadable(path, f"cannot be read: {error}", _vault_fix(error)) from error
    except OSError as error:
        raise Unreadable(
            path, f"cannot be read: {error.strerror}", "check the file's owner and mode"
        ) from error
    _check_encoding(path, text)
    encrypted = _is_encrypted(path)
    reader = AnsibleLoader(trust_as_template(text))
    # One key twice in a mapping silently loses the first; everywhere else Ansible only warns.
    reader._duplicate_key_mode = "error"
    try:
        return reader.get_single_data(), encrypted
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise Unreadable(path, _yaml_words(error), _yaml_fix(text, line), line, column) from error
    except (yaml.YAMLError, ValueError, AnsibleError) as error:
        raise Unreadable(path, f"is not YAML: {error}", "see the line named") from error
    finally:
        reader.dispose()


def _check_encoding(path, text):
    """Bytes that are not UTF-8 arrive as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        byte = ord(text[error.start]) & 0xFF
        raise Unreadable(
            path,
            f"is not UTF-8: byte 0x{byte:02x}",
            "save it as UTF-8 (iconv -f latin1 -t utf-8, if it was written that way)",
            line,
            error.start - text.rfind("\n", 0, error.start),
        ) from error


def _is_encrypted(path):
    try:
        with Path(path).open("rb") as file:
            return file.read(14) == b"$ANSIBLE_VAULT"
    except OSError:
        return False


def _vault_fix(error):
    if "vault" in str(error).lower() or "decrypt" in str(error).lower():
        return "give the password with --vault-id or --vault-password-file"
    return "check the file"


def _yaml_words(error):
    words = str(error.problem or error.context or "syntax error").strip().rstrip(".")
    if words.startswith("Found duplicate mapping key"):
        return words[0].lower() + words[1:] + " (the first would be lost)"
    return f"YAML syntax error: {words}"


def _yaml_fix(text, line):
    found = text.splitlines()[line - 1] if line and line <= len(text.splitlines()) else ""
    if "\t" in found:
        return "use spaces, not tabs"
    if ": {{" in found or "- {{" in found:
        return "put the template in quotes"
    if found.startswith("---"):
        return "write one document per file"
    return "see this line and the one before it"


def gather(loader, config_path, merger=None):
    """Reads edge.yml and the folder beside it.

    Returns {"edge", "problems", "encrypted" (files), "incomplete" (some file could not be read)}.
    """
    merger = merger or Merger(origin_of)
    problems, encrypted = [], []
    incomplete = False
    plain, overlays = files_below(Path(config_path).parent / FOLDER)
    steps = [(config_path, merger.add)]
    steps += [(path, merger.add) for path in plain]
    steps += [(path, merger.overlay) for path in overlays]
    for path, take in steps:
        try:
            document, secret = read_file(loader, path)
        except Unreadable as error:
            problems.append(error.problem)
            incomplete = True
            continue
        if secret:
            encrypted.append(path)
        if path == config_path and isinstance(document, dict):
            document.pop("plugin", None)
        take(document, shown_path(path))
    return {
        "edge": merger.result(),
        "problems": problems + merger.problems,
        "encrypted": encrypted,
        "incomplete": incomplete,
    }

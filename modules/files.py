#!/usr/bin/python
"""Bring many small files of one host to what they should be, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Many small files of a host in one call
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Brings a list of files, directories and links to their wanted content, owner and mode.
  - One call for a role's whole set costs what one M(ansible.builtin.template) costs, which is why it exists.
    Render the content with the C(template) lookup.
  - A file is written beside its place, flushed to disk and renamed, so that no reader sees half of one.
options:
  files:
    description: What should be there.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path on the host. Missing parents of a file are made with mode 0755.
        type: path
        required: true
      state:
        description: What the path should be.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: The whole content of a file.
        type: str
      target:
        description: Where a link leads.
        type: str
      mode:
        description: Permissions, in octal digits.
        type: str
      owner:
        description: Name of the owner.
        type: str
        default: root
      group:
        description: Name of the group.
        type: str
        default: root
  secrets:
    description:
      - Content of files that hold a secret, by path; each path is an entry of I(files) too, without content.
      - It is in no diff, in no result at any verbosity, and not in the host's journal, to which Ansible
        writes the arguments of every module.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says what would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows each file before and after.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Configuration of the agent
  marchproxy.edge.files:
    files:
      - path: /etc/marchproxy/node.yml
        content: "{{ lookup('ansible.builtin.template', 'node.yml.j2') }}"
        group: marchproxy
        mode: "0640"
      - {path: /etc/marchproxy/serve.yml, owner: marchproxy, mode: "0400"}
      - path: /usr/local/bin/xds-agent
        state: link
        target: /opt/marchproxy/agent/bin/xds-agent
    secrets:
      /etc/marchproxy/serve.yml: "{{ lookup('ansible.builtin.template', 'serve.yml.j2') }}"
"""

RETURN = r"""
changed_paths:
  description: Paths that changed, or would.
  returned: always
  type: list
  elements: str
  sample: [/etc/marchproxy/node.yml]
"""

import grp
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DEFAULT_MODE = {"file": 0o644, "directory": 0o755}
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


class FilesError(Exception):
    """A file cannot be brought to its state; the words name it."""


@dataclass(frozen=True)
class Found:
    """What is at a path now; `kind` is absent where nothing is."""

    kind: str
    content: bytes = b""
    target: str = ""
    mode: int = 0
    uid: int = -1
    gid: int = -1


@dataclass(frozen=True)
class Wanted:
    """What should be there; uid or gid is None while its user does not exist yet."""

    path: Path
    kind: str
    content: bytes
    target: str
    mode: int
    uid: int | None
    gid: int | None
    sensitive: bool

    def differs(self, found: Found) -> list[str]:
        """Which of kind, content, target, mode, owner, group differ."""
        if self.kind != found.kind:
            return ["kind"]
        if self.kind == "absent":
            return []
        if self.kind == "link":
            return ["target"] if self.target != found.target else []
        differences = []
        if self.kind == "file" and self.content != found.content:
            differences.append("content")
        if self.mode != found.mode:
            differences.append("mode")
        if self.uid != found.uid:
            differences.append("owner")
        if self.gid != found.gid:
            differences.append("group")
        return differences


def gather(path: Path) -> Found:
    """What is at `path` now."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Found("absent")
    kind = KINDS.get(stat.S_IFMT(status.st_mode), "other")
    return Found(
        kind,
        content=path.read_bytes() if kind == "file" else b"",
        target=str(path.readlink()) if kind == "link" else "",
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )


def wanted_from(entry: dict[str, Any], secrets: dict[str, Any]) -> Wanted:
    """One entry of `files`, checked, its content from `secrets` where that has it. Raises FilesError."""
    path, kind = Path(entry["path"]), entry["state"]
    sensitive = entry["path"] in secrets
    content = secrets[entry["path"]] if sensitive else entry["content"]
    if not path.is_absolute():
        raise FilesError(f"{path}: must be an absolute path")
    if kind == "file" and content is None:
        raise FilesError(f"{path}: a file needs 'content', or its path in 'secrets'")
    if sensitive and entry["content"] is not None:
        raise FilesError(f"{path}: has 'content' and is in 'secrets'; one of them is enough")
    if kind == "link" and not entry["target"]:
        raise FilesError(f"{path}: a link needs 'target'")
    try:
        mode = int(entry["mode"], 8) if entry["mode"] else DEFAULT_MODE.get(kind, 0)
    except ValueError:
        raise FilesError(f"{path}: mode {entry['mode']!r} is not octal digits such as 0640") from None
    return Wanted(
        path=path,
        kind=kind,
        content=str(content or "").encode(),
        target=entry["target"] or "",
        mode=mode,
        uid=_user(entry["owner"]),
        gid=_group(entry["group"]),
        sensitive=sensitive,
    )


def _user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def apply(wanted: Wanted, found: Found, names: tuple[str, str]) -> None:
    """Bring the path to its state; `names` are owner and group for the words of an error."""
    path = wanted.path
    if wanted.kind == "absent":
        if found.kind == "directory":
            raise FilesError(f"{path}: is a directory; only files and links are removed")
        path.unlink()
        return
    is_dir, should_be_dir = found.kind == "directory", wanted.kind == "directory"
    if found.kind == "other" or (found.kind != "absent" and is_dir != should_be_dir):
        raise FilesError(f"{path}: is a {found.kind}, should be a {wanted.kind}; move it out of the way")
    if wanted.kind == "link":
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.symlink_to(wanted.target)
        beside.replace(path)
        return
    if wanted.uid is None or wanted.gid is None:
        missing = f"user {names[0]}" if wanted.uid is None else f"group {names[1]}"
        raise FilesError(f"{path}: there is no {missing} on this host; role host makes it")
    if wanted.kind == "directory":
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, wanted.uid, wanted.gid)
        path.chmod(wanted.mode)
        return
    _write(path, wanted.content, mode=wanted.mode, uid=wanted.uid, gid=wanted.gid)


def _write(path: Path, content: bytes, *, mode: int, uid: int, gid: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def diff_of(wanted: Wanted, found: Found, differences: list[str]) -> dict[str, str]:
    """Before and after of one path, content only where that is what differs."""
    shows_content = not wanted.sensitive and {"kind", "content"} & set(differences) and wanted.kind == "file"
    if shows_content:
        return {
            "before_header": str(wanted.path),
            "after_header": str(wanted.path),
            "before": found.content.decode(errors="replace"),
            "after": wanted.content.decode(errors="replace"),
        }
    return {
        "before_header": str(wanted.path),
        "after_header": str(wanted.path),
        "before": _words(found.kind, found.target, found.mode) + "\n",
        "after": _words(wanted.kind, wanted.target, wanted.mode)
        + (f" ({', '.join(differences)} changed)" if found.kind == wanted.kind else "")
        + "\n",
    }


def _words(kind: str, target: str, mode: int) -> str:
    if kind == "link":
        return f"link to {target}"
    return kind if kind == "absent" else f"{kind}, mode {mode:04o}"


ARGUMENTS: dict[str, Any] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "state": {"choices": ["file", "directory", "link", "absent"], "default": "file"},
            "content": {"type": "str"},
            "target": {"type": "str"},
            "mode": {"type": "str"},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
        },
    },
    "secrets": {"type": "dict", "default": {}, "no_log": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    entries, secrets = module.params["files"], module.params["secrets"]
    try:
        strangers = sorted(secrets.keys() - {entry["path"] for entry in entries})
        if strangers:
            raise FilesError(f"{', '.join(strangers)}: in 'secrets', but not in 'files'")
        plan = []
        for entry in entries:
            wanted = wanted_from(entry, secrets)
            found = gather(wanted.path)
            differences = wanted.differs(found)
            if differences:
                plan.append((wanted, found, differences, (entry["owner"], entry["group"])))
        result = {
            "changed": bool(plan),
            "changed_paths": [str(wanted.path) for wanted, *_ in plan],
            "diff": [diff_of(wanted, found, differences) for wanted, found, differences, _ in plan],
        }
        if not module.check_mode:
            for wanted, found, _, names in plan:
                apply(wanted, found, names)
    except FilesError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'a file'}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()

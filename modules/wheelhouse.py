#!/usr/bin/python
"""On the controller: everything the hosts install, fetched once, checked, packed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheelhouse
short_description: What the hosts install, prepared once on the controller
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Runs on the controller. Fetches the wheels of hashed requirements files for other machines' platforms and
    packs them, with their requirements and a C(SHA256SUMS), into one archive per platform.
  - Builds the wheel of this project's own source tree.
  - Archives are named after the hash of what decides their content, so a second call finds them and does
    nothing, and a site without a network copies them into I(local_dir).
options:
  project:
    description: Root of the source tree whose wheel is built; leave out where only the archive is wanted.
    type: path
  name:
    description: What the archive is called.
    type: str
    required: true
  requirements:
    description: Hashed requirements files; their lines are joined.
    type: list
    elements: path
    required: true
  platforms:
    description: Pairs of machine (x86_64, aarch64) and Python version (3.11) as C(x86_64-3.11).
    type: list
    elements: str
    required: true
  cache_dir:
    description: Where archives are kept on the controller.
    type: path
    required: true
  local_dir:
    description: A folder with ready archives, as another controller's I(cache_dir); replaces the network.
    type: path
attributes:
  check_mode:
    description: Says which archives would be made.
    support: full
  diff_mode:
    description: The names of the archives.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Prepare the agent's wheels
  marchproxy.edge.wheelhouse:
    name: agent
    project: "{{ playbook_dir }}/.."
    requirements: [requirements/agent.txt, script/lib/uv.txt]
    platforms: [x86_64-3.11, aarch64-3.11]
    cache_dir: ~/.cache/marchproxy/wheelhouse
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
key:
  description: Hash of all that decides what is installed; the stamp on the hosts.
  returned: always
  type: str
archives:
  description: For each platform its archive and the archive's SHA-256.
  returned: always
  type: dict
wheel:
  description: Path and SHA-256 of our own wheel, where I(project) is given.
  returned: when project is given
  type: dict
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Raise when the archive's own form changes.
FORM = "1"
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "xds_agent")
# Oldest and newest glibc whose wheels a supported distribution can load (Debian 12 has 2.36).
GLIBC_MINORS = range(17, 37)
KEY_DIGITS = 16
WHEELS_KEPT = 5


class WheelhouseError(Exception):
    """An archive or wheel cannot be made; the words say what to do."""


def key_of(parts: Iterable[bytes]) -> str:
    """A short hash over `parts`, each of which counts with its length."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:KEY_DIGITS]


def sources(project: Path) -> list[Path]:
    """Files of the tree that go into our wheel, sorted."""
    found = []
    for name in SOURCES:
        path = project / name
        if path.is_dir():
            found += [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        elif path.exists():
            found.append(path)
    return sorted(found)


def platform_tags(machine: str) -> list[str]:
    """Tags of the wheels that load on a machine, as pip's --platform takes them."""
    return [f"manylinux_2_{minor}_{machine}" for minor in reversed(GLIBC_MINORS)] + [
        f"manylinux2014_{machine}"
    ]


def digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def ready(path: Path) -> bool:
    """Whether an archive or wheel is there whole, as its checksum file says."""
    record = path.with_name(path.name + ".sha256")
    try:
        return record.read_text(encoding="ascii").split()[0] == digest(path)
    except (OSError, IndexError):
        return False


def publish(made: Path, path: Path) -> None:
    """Move a finished file to its name, its checksum beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, path.with_name(f".{path.name}"))
    path.with_name(f".{path.name}").replace(path)
    path.with_name(path.name + ".sha256").write_text(f"{digest(path)}  {path.name}\n", encoding="ascii")


def from_local(name: str, local_dir: Path | None, cache_dir: Path) -> bool:
    """Take a ready file from `local_dir` into the cache. Raises WheelhouseError where it is not there."""
    if local_dir is None:
        return False
    source = local_dir / name
    if not ready(source):
        raise WheelhouseError(
            f"{local_dir} holds no whole {name} (with {name}.sha256): run the same playbook on a "
            "controller with a network and copy its cache folder here"
        )
    cache_dir.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, cache_dir / f".{name}")
    publish(cache_dir / f".{name}", cache_dir / name)
    return True


def pip(*arguments: str, cwd: Path) -> None:
    """Run this interpreter's pip. Raises WheelhouseError with the end of what it said."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-6:]
        raise WheelhouseError(
            f"pip {arguments[0]}: {' / '.join(words)}; without a network, set local_dir to a folder with "
            "archives that another controller made"
        )


def make_archive(path: Path, requirements: str, platform: str) -> None:
    """Fetch the wheels for `platform` and pack them at `path`."""
    machine, _, python = platform.partition("-")
    with tempfile.TemporaryDirectory(prefix="wheelhouse-", dir=path.parent) as folder:
        work = Path(folder)
        wheels = work / "tree" / "wheels"
        wheels.mkdir(parents=True)
        (work / "tree" / "requirements.txt").write_text(requirements, encoding="utf-8")
        tags = [option for tag in platform_tags(machine) for option in ("--platform", tag)]
        pip(
            "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes",
            "--implementation", "cp", "--python-version", python, *tags, "--dest", str(wheels),
            "--requirement", str(work / "tree" / "requirements.txt"), cwd=work,
        )  # fmt: skip
        files = sorted(wheels.iterdir())
        sums = "".join(f"{digest(file)}  wheels/{file.name}\n" for file in files)
        (work / "tree" / "SHA256SUMS").write_text(sums, encoding="ascii")
        with tarfile.open(work / "archive.tar", "w") as archive:
            archive.add(work / "tree", arcname=".", filter=_anonymous)
        publish(work / "archive.tar", path)


def make_wheel(path: Path, project: Path) -> None:
    """Build our own wheel from a copy of its sources, so that nothing is written into the tree."""
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=path.parent) as folder:
        tree = Path(folder) / "tree"
        for file in sources(project):
            target = tree / file.relative_to(project)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        pip(
            "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
            "--wheel-dir", str(Path(folder)), str(tree), cwd=tree,
        )  # fmt: skip
        made = next(Path(folder).glob("*.whl"), None)
        if made is None:
            raise WheelhouseError("pip built no wheel of this project")
        publish(made, path)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = 0
    return entry


def prune(cache_dir: Path) -> None:
    """Remove all but the newest few folders of our own wheel: every edit of the tree makes one."""
    folders = sorted(cache_dir.glob("marchproxy-*/"), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-WHEELS_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


ARGUMENTS: dict[str, Any] = {
    "project": {"type": "path"},
    "name": {"type": "str", "required": True},
    "requirements": {"type": "list", "elements": "path", "required": True},
    "platforms": {"type": "list", "elements": "str", "required": True},
    "cache_dir": {"type": "path", "required": True},
    "local_dir": {"type": "path"},
}


@contextmanager
def alone(cache_dir: Path) -> Iterator[None]:
    """One playbook of this controller at a time makes archives; whoever waits finds them made."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def prepare(params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """Make what is missing; the module's answer. Raises WheelhouseError."""
    cache = Path(params["cache_dir"])
    with nullcontext() if check else alone(cache):
        return _prepare(params, cache, check=check)


def _prepare(params: dict[str, Any], cache: Path, *, check: bool) -> dict[str, Any]:
    local = Path(params["local_dir"]) if params["local_dir"] else None
    try:
        requirements = "".join(Path(path).read_text(encoding="utf-8") for path in params["requirements"])
    except OSError as error:
        raise WheelhouseError(f"{error.filename}: {error.strerror}") from error
    key = key_of([FORM.encode(), requirements.encode()])
    made: list[str] = []
    archives = {}
    for platform in sorted(set(params["platforms"])):
        path = cache / f"{params['name']}-{key}-{platform}.tar"
        if not ready(path):
            made.append(path.name)
            if not check and not from_local(path.name, local, cache):
                make_archive(path, requirements, platform)
        archives[platform] = {"path": str(path), "sha256": digest(path) if path.exists() else ""}
    result: dict[str, Any] = {"key": key, "deps_key": key, "archives": archives}
    if params["project"]:
        project = Path(params["project"]).resolve()
        files = sources(project)
        own = key_of(
            part for file in files for part in (str(file.relative_to(project)).encode(), file.read_bytes())
        )
        # The file's name must be that of a wheel; the folder names its content.
        version = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "version"
        ]
        path = cache / f"marchproxy-{own}" / f"marchproxy-{version}-py3-none-any.whl"
        if not ready(path):
            made.append(f"{path.parent.name}/{path.name}")
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not from_local(path.name, local / path.parent.name if local else None, path.parent):
                    make_wheel(path, project)
        result["key"] = key_of([key.encode(), own.encode()])
        result["wheel"] = {"path": str(path), "sha256": digest(path) if path.exists() else ""}
        if not check:
            os.utime(path.parent)
            prune(cache)
    return result | {
        "changed": bool(made),
        "diff": {"before": "", "after": "".join(f"{name}\n" for name in made)},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    os.environ["SOURCE_DATE_EPOCH"] = "1704067200"  # wheels of the same tree are the same bytes
    try:
        result = prepare(module.params, check=module.check_mode)
    except WheelhouseError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or module.params['cache_dir']}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()

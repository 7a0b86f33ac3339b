"""The controller's part of marchproxy.edge.fleet: gathers the site, once, and hands it over privately."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.marchproxy.edge.plugins.module_utils.fleet_text import bare, diff_text, problems_text
from ansible_collections.marchproxy.edge.plugins.module_utils.site_document import site_document
from ansible_collections.marchproxy.edge.plugins.module_utils.site_model import check, first_change
from ansible_collections.marchproxy.edge.plugins.module_utils.where_control_is import who_runs

# A change in waves takes longer; most do not.
TOLD_AFTER_S = 2.0


class ActionModule(ActionBase):
    """Options and results are documented in modules/fleet.py."""

    # True would connect before the first line below, also to a host that is not there yet.
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        here = self._task.delegate_to or task_vars.get("inventory_hostname", "")
        runner = who_runs(task_vars)
        if runner.problem:
            raise AnsibleActionFail(runner.problem)
        if here not in runner.control:
            raise AnsibleActionFail(
                f"fleet runs on a control host, this task runs on {here}; write `hosts: control` with "
                '`run_once: true`, or delegate_to: "{{ groups.control[0] }}"'
            )
        if not self._task.delegate_to and not self._task.run_once and here != runner.chosen:
            return dict(
                result, changed=False, skipped=True, skip_reason=f"{runner.chosen} does it for the site"
            )

        args = dict(self._task.args)
        args.setdefault("author", f"{_user()}@{socket.gethostname()}")
        removal = args.get("allow_removal") or self._templar.template(task_vars.get("allow_removal"))
        if removal:
            # -e allow_removal=NAME (or NAME,NAME) is what the refusal asks for.
            names = [removal] if isinstance(removal, str) else removal
            args["allow_removal"] = [name for one in names for name in str(one).split(",") if name]
        if args.get("rollback_to") not in (None, ""):
            with self._told_what_goes_on(here):
                answer = self._execute_module(module_args=args, task_vars=task_vars)
            return self._hide(dict(result, **answer))

        document = site_document(task_vars, self._templar)
        problems = check(document)
        if problems:
            return dict(result, **failed(problems))
        args.setdefault("commit", _commit(task_vars.get("inventory_dir")))
        try:
            with self._told_what_goes_on(here):
                answer = self._send(document, args, task_vars)
        except AnsibleConnectionFailure as error:
            others = [name for name in runner.control if name != here]
            if others and not self._task.check_mode:
                raise AnsibleConnectionFailure(
                    f"{error}; {' or '.join(others)} can be asked as well: --limit 'all:!{here}'"
                ) from error
            if not self._task.check_mode:
                raise
            answer = {"absent": True, "changed": True, "summary": f"the control host {here} is not there yet"}
        if answer.get("absent"):
            answer = self._before_control(document, answer)
        return self._hide(dict(result, **answer))

    @contextlib.contextmanager
    def _told_what_goes_on(self, here):
        """Half a wave is nobody's wish: whoever interrupts the play does not stop control, and must know.

        Said beforehand, when the change takes long: an interrupted Ansible ends its workers without a word.
        """
        words = (
            f"control on {here} is bringing it to the proxies. Interrupting the play does not stop that: "
            "control goes on to the end, or back; `xds-agent history -n 1` there says which"
        )
        telling = threading.Timer(TOLD_AFTER_S, self._display.display, [words])
        telling.daemon = True
        if not self._task.check_mode:
            telling.start()
        try:
            yield
        finally:
            telling.cancel()

    def _send(self, document, args, task_vars):
        """Copy the document to a file that only the remote user can read, and run the module on it."""
        handle, local = tempfile.mkstemp(prefix="fleet-", suffix=".json")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file, separators=(",", ":"))
            if not self._connection._shell.tmpdir:
                self._make_tmp_path()
            remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "document.json")
            self._transfer_file(local, remote)
        finally:
            Path(local).unlink()
        self._fixup_perms2([self._connection._shell.tmpdir, remote], execute=False)
        return self._execute_module(module_args=dict(args, document_file=remote), task_vars=task_vars)

    def _before_control(self, document, answer):
        """No control host answers yet: what would be created, from the model alone."""
        change = first_change(document)
        change["notes"] = [*change.get("notes", []), answer.get("summary", "")]
        return {
            "changed": True,
            "revision": None,
            "number": None,
            "nodes": {},
            "lines": change["lines"],
            "summary": change["summary"],
            "notes": change["notes"],
            "warnings": [f"{answer.get('summary', '')}: nothing was compared, so everything is shown as new"],
            "diff": [{"prepared": diff_text(change)}],
        }

    @staticmethod
    def _hide(result):
        """What the module was called with is nobody's business: -vvv prints results."""
        result.pop("invocation", None)
        return result


def failed(problems):
    """A failure that lists every problem, each with its place."""
    return {"failed": True, "msg": problems_text(problems), "problems": bare(problems)}


def _user():
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _commit(folder):
    """Commit of the repository the inventory lies in, with a word when it has been edited since."""
    if not folder:
        return ""
    git = ["git", "-C", folder]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10
        )
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if head.returncode != 0:
        return ""
    return head.stdout.strip() + (" with edits" if dirty.stdout.strip() else "")

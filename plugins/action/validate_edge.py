"""marchproxy.edge.validate_edge: checks the edge of the inventory on the controller; no connection."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.marchproxy.edge.plugins.module_utils.fleet_text import bare, problems_text
from ansible_collections.marchproxy.edge.plugins.module_utils.site_document import site_document
from ansible_collections.marchproxy.edge.plugins.module_utils.site_model import ModelMissing, check, notes
from ansible_collections.marchproxy.edge.plugins.module_utils.where_control_is import who_runs


class ActionModule(ActionBase):
    """Options and results are documented in modules/validate_edge.py."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec({"require_control": {"type": "bool", "default": True}})
        runner = who_runs(task_vars)
        if runner.problem and options["require_control"]:
            raise AnsibleActionFail(runner.problem)
        try:
            document = site_document(task_vars, self._templar)
            problems = check(document)
            said = [] if problems else notes(document)
        except ModelMissing as error:
            raise AnsibleActionFail(str(error)) from error
        if problems:
            return dict(result, failed=True, msg=problems_text(problems), problems=bare(problems))
        edge = document.get("edge", {})
        counts = {key: len(value) for key, value in edge.items() if isinstance(value, list)}
        return dict(
            result,
            changed=False,
            notes=said,
            counts=counts,
            msg=f"the edge is valid: {counts.get('services', 0)} services, {len(document['hosts'])} hosts",
        )

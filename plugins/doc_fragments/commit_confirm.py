"""The options of modules whose change the host takes back by itself unless it is confirmed."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of ``module_utils/commit_confirm.py``."""

    DOCUMENTATION = r"""
options:
  confirm_within:
    description: Take the change back after that many seconds unless it is confirmed. 0 keeps it at once.
    type: int
    default: 0
  confirm:
    description: Confirm the change of an earlier call instead of making one.
    type: bool
    default: false
"""

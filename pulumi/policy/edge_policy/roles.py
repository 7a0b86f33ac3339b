"""What hosts may do in the cloud: read what they are meant to read, and nothing wide."""

from __future__ import annotations

import json
from collections.abc import Iterator

from edge_policy.reading import Props, items, mapping

_GCP_BASIC = ("roles/owner", "roles/editor", "roles/viewer")
_NEEDS_CONDITION = "roles/secretmanager.secretAccessor"
# Owner, Contributor, User Access Administrator of Azure.
_AZURE_WIDE = (
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
)
_SUBSCRIPTION_PARTS = 3
"""'/subscriptions/ID' split by '/': a scope of so many parts is a whole subscription."""
_GROUP_PARTS = 5
_DESCRIBES = "ec2:Describe"
"""Actions of AWS that read, and that cannot be given for single things."""


def wide_role(kind: str, props: Props) -> Iterator[str]:
    """A role that reaches further than one kind of thing."""
    if kind in ("aws:iam/rolePolicy:RolePolicy", "aws:iam/policy:Policy"):
        yield from _aws_policy(str(props.get("policy") or "{}"))
    elif kind == "aws:iam/rolePolicyAttachment:RolePolicyAttachment":
        yield f"attaches {props.get('policyArn')}; write what the hosts may do in a policy of the role's own"
    elif kind in ("gcp:projects/iAMMember:IAMMember", "gcp:projects/iAMBinding:IAMBinding"):
        yield from _gcp_member(props)
    elif kind == "azure-native:authorization:RoleAssignment":
        yield from _azure_assignment(props)


def _aws_policy(text: str) -> Iterator[str]:
    for statement in _as_list(mapping(json.loads(text)).get("Statement")):
        said = mapping(statement)
        if said.get("Effect") != "Allow":
            continue
        for action in _as_list(said.get("Action")):
            if "*" in str(action):
                yield f"allows {action}; name each action"
        if "NotAction" in said or "NotResource" in said:
            yield "allows all but something; name what is allowed"
        if all(str(action).startswith(_DESCRIBES) for action in _as_list(said.get("Action"))):
            continue
        for resource in _as_list(said.get("Resource")):
            if str(resource) == "*" or str(resource).endswith((":*", ":secret:*", ":::*", ":::*/*")):
                yield f"reaches {resource}; name the things, by a prefix at least"


def _as_list(value: object) -> list[object]:
    if value is None:
        return []
    return items(value) if isinstance(value, list | tuple) else [value]


def _gcp_member(props: Props) -> Iterator[str]:
    role = str(props.get("role") or "")
    if role in _GCP_BASIC or role.lower().endswith("admin"):
        yield f"gives {role} on the whole project; give the one role that is needed"
    elif role == _NEEDS_CONDITION and not mapping(props.get("condition")).get("expression"):
        yield "lets every secret of the project be read; add a condition on their names"


def _azure_assignment(props: Props) -> Iterator[str]:
    role = str(props.get("roleDefinitionId") or "").rpartition("/")[2]
    parts = len(str(props.get("scope") or "").rstrip("/").split("/"))
    if role in _AZURE_WIDE:
        yield "gives a role that may change everything in its scope; give the one role that is needed"
    if parts <= _SUBSCRIPTION_PARTS:
        yield "reaches a whole subscription; name one thing as scope"
    elif parts <= _GROUP_PARTS:
        yield "reaches a whole resource group; name one thing as scope"

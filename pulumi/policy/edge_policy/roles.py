"""What hosts may do in the cloud: a list of what is allowed, and nothing beside it.

Whoever needs more adds it to a table here, where it is seen in a review.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from edge_policy.reading import Props, items, mapping

_AWS_ACTIONS = frozenset({"s3:GetObject", "secretsmanager:GetSecretValue", "ec2:ReplaceRoute"})
_DESCRIBES = "ec2:Describe"
"""Actions of AWS that read, and that cannot be given for single things."""
_KINDS = ("secret:", "route-table/", "role/")
"""What stands before a thing's own name in the last part of its ARN."""
_ARN_PARTS = 6
# As the programs write it: the name behind the project's number begins with a text.
_BEGINS = re.compile(r'resource\.name(\.extract\("/secrets/\{name\}/"\))?\.startsWith\("[A-Za-z0-9_/-]+"\)')
_AWS_POLICIES = ("rolePolicy:RolePolicy", "policy:Policy", "userPolicy:UserPolicy", "groupPolicy:GroupPolicy")

_SECRETS = "roles/secretmanager.secretAccessor"
_GCP_ROLES = {
    "gcp:projects/": frozenset({_SECRETS}),
    "gcp:secretmanager/": frozenset({_SECRETS}),
    "gcp:storage/": frozenset({"roles/storage.objectViewer"}),
}
"""Where a role is given -> the roles that may be given there; nowhere else is any."""
_GIVES = ("iammember", "iambinding", "iampolicy")

_AZURE_ROLES = {
    "4633458b-17de-408a-874c-0445c86b69e6": "Key Vault Secrets User",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
}
_SUBSCRIPTION_PARTS = 3
"""'/subscriptions/ID' split by '/': a scope of so many parts is a whole subscription."""
_GROUP_PARTS = 5


def wide_role(kind: str, props: Props) -> Iterator[str]:
    """A role beyond what is listed, or one that reaches further than the things it is for."""
    if kind.startswith("aws:iam/"):
        yield from _aws(kind, props)
    elif kind.startswith("gcp:") and kind.rpartition(":")[2].lower().endswith(_GIVES):
        yield from _gcp(kind, props)
    elif kind == "azure-native:authorization:RoleAssignment":
        yield from _azure_assignment(props)
    elif kind == "azure-native:authorization:RoleDefinition":
        yield "makes a role of its own; give one of " + ", ".join(_AZURE_ROLES.values())


def _aws(kind: str, props: Props) -> Iterator[str]:
    if kind.endswith(_AWS_POLICIES):
        yield from _aws_policy(props.get("policy"))
    elif kind.endswith("Attachment"):
        yield _attaches(props.get("policyArn"))
    for policy in items(props.get("inlinePolicies")):
        yield from _aws_policy(mapping(policy).get("policy"))
    for arn in [*items(props.get("managedPolicyArns")), *items(props.get("policyArns"))]:
        yield _attaches(arn)


def _attaches(arn: object) -> str:
    return f"attaches {arn}; write what the hosts may do in a policy of the role's own"


def _aws_policy(text: object) -> Iterator[str]:
    for statement in _as_list(mapping(json.loads(str(text or "{}"))).get("Statement")):
        said = mapping(statement)
        if said.get("Effect") != "Allow":
            continue
        if {"NotAction", "NotResource"} & said.keys():
            yield "allows all but something; name what is allowed"
            continue
        actions = [str(action) for action in _as_list(said.get("Action"))]
        reads = [action for action in actions if action.startswith(_DESCRIBES) and "*" not in action]
        refused = [action for action in actions if action not in _AWS_ACTIONS and action not in reads]
        if refused:
            may = ", ".join(sorted(_AWS_ACTIONS))
            yield f"allows {', '.join(refused)}; hosts may {may} and {_DESCRIBES}..."
        elif reads != actions:
            resources = map(str, _as_list(said.get("Resource")))
            wide = [one for one in resources if _is_wide(one)]
            if wide:
                yield f"reaches {', '.join(wide)}; name the things, by a prefix at least"


def _is_wide(arn: str) -> bool:
    """Whether a pattern stands anywhere but behind a name; of a bucket, behind its whole name and a slash."""
    parts = arn.split(":", _ARN_PARTS - 1)
    if len(parts) < _ARN_PARTS:
        return True
    service, own = parts[2], parts[-1]
    name = own.removesuffix("*")
    for kind in _KINDS:
        name = name.removeprefix(kind)
    if {"*", "?"} & {*name, *service} or not name.strip("/"):
        return True
    return service == "s3" and own.endswith("*") and "/" not in name


def _as_list(value: object) -> list[object]:
    if value is None:
        return []
    return items(value) if isinstance(value, list | tuple) else [value]


def _gcp(kind: str, props: Props) -> Iterator[str]:
    role = str(props.get("role") or "a policy as a whole")
    allowed = next((roles for where, roles in _GCP_ROLES.items() if kind.startswith(where)), frozenset())
    if role not in allowed:
        may = (
            f"; hosts may have {', '.join(sorted(allowed))} there" if allowed else "; nothing is given there"
        )
        yield f"gives {role} in {kind}{may}"
    elif kind.startswith("gcp:projects/") and not _BEGINS.fullmatch(
        str(mapping(props.get("condition")).get("expression") or "")
    ):
        yield "lets every secret of the project be read; add a condition on how their names begin"


def _azure_assignment(props: Props) -> Iterator[str]:
    role = str(props.get("roleDefinitionId") or "").rpartition("/")[2].lower()
    parts = len(str(props.get("scope") or "").rstrip("/").split("/"))
    if role not in _AZURE_ROLES:
        yield f"gives the role {role}; hosts may have {', '.join(_AZURE_ROLES.values())}"
    elif parts <= _SUBSCRIPTION_PARTS:
        yield "reaches a whole subscription; name one thing as scope"
    elif parts <= _GROUP_PARTS:
        yield "reaches a whole resource group; name one thing as scope"

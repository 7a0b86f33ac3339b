"""Roles of hosts: what they may read of secrets and artefacts, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pulumi_aws as aws

import pulumi
from edge_iac.base import Identity
from edge_iac.component import Part
from edge_iac.site import AwsSite, Role
from edge_iac.site.names import identity_name

_ASSUMED_BY_INSTANCES = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
        ],
    },
    sort_keys=True,
)


class IdentityPart(Part):
    """An IAM role and its instance profile per role of hosts."""

    cloud, kind = "aws", "Identity"

    def __init__(
        self, *, site: str, said: AwsSite, roles: Iterable[Role], tags: dict[str, str], provider: aws.Provider
    ) -> None:
        super().__init__("aws", provider)
        self._tags = tags
        self.made = Identity(
            {role: self._profile(identity_name(site, role), _may_read(said, role)) for role in roles}
        )
        self.register_outputs({})

    def _profile(self, name: str, policy: str | None) -> pulumi.Output[str]:
        role = aws.iam.Role(
            name, name=name, assume_role_policy=_ASSUMED_BY_INSTANCES, tags=self._tags, opts=self.child()
        )
        if policy is not None:
            aws.iam.RolePolicy(name, role=role.name, name="read", policy=policy, opts=self.child())
        return aws.iam.InstanceProfile(name, name=name, role=role.name, opts=self.child()).name


def _may_read(said: AwsSite, role: Role) -> str | None:
    """The policy of a role, or None where the site names neither secrets nor artefacts."""
    statements = []
    if said.secrets_prefix is not None:
        account = said.account or "*"
        secrets = f"arn:aws:secretsmanager:*:{account}:secret:{said.secrets_prefix}{role}/*"
        statements.append(
            {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": [secrets]}
        )
    if said.artifacts_bucket is not None:
        objects = f"arn:aws:s3:::{said.artifacts_bucket}/*"
        statements.append({"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [objects]})
    if not statements:
        return None
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, sort_keys=True)

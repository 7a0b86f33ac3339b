"""Service accounts of hosts: what they may read of secrets and artefacts, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pulumi_gcp as gcp

import pulumi
from edge_iac.base import Identity
from edge_iac.component import Part
from edge_iac.site import GcpSite, Role
from edge_iac.site.names import identity_name


class IdentityPart(Part):
    """A service account per role of hosts."""

    cloud, kind = "gcp", "Identity"

    def __init__(self, *, site: str, said: GcpSite, roles: Iterable[Role], provider: gcp.Provider) -> None:
        super().__init__("gcp", provider)
        self._said = said
        self.made = Identity({role: self._account(identity_name(site, role), role) for role in roles})
        self.register_outputs({})

    def _account(self, name: str, role: Role) -> pulumi.Output[str]:
        account = gcp.serviceaccount.Account(
            name,
            account_id=name,
            project=self._said.project,
            display_name=f"{name} hosts of the edge",
            opts=self.child(),
        )
        member = account.email.apply(lambda email: f"serviceAccount:{email}")
        prefix = self._said.secrets_prefix
        if prefix is not None:
            gcp.projects.IAMMember(
                f"{name}-secrets",
                project=self._said.project,
                role="roles/secretmanager.secretAccessor",
                member=member,
                condition=gcp.projects.IAMMemberConditionArgs(
                    title="secrets of the edge",
                    # Resource names carry the project's number, so the name is looked at behind it.
                    expression=f'resource.name.extract("/secrets/{{name}}/").startsWith("{prefix}{role}-")',
                ),
                opts=self.child(),
            )
        if self._said.artifacts_bucket is not None:
            gcp.storage.BucketIAMMember(
                f"{name}-artifacts",
                bucket=self._said.artifacts_bucket,
                role="roles/storage.objectViewer",
                member=member,
                opts=self.child(),
            )
        return account.email

"""Managed identities of hosts: what they may read of secrets and artefacts, and nothing else."""

from __future__ import annotations

from pulumi_azure_native import authorization, managedidentity

import pulumi
from edge_iac.azure.place import Place
from edge_iac.base import Identity
from edge_iac.component import Part
from edge_iac.site import AzureSite, Role
from edge_iac.site.names import identity_name

# Azure's own roles, whose ids are the same everywhere.
SECRETS_USER = "4633458b-17de-408a-874c-0445c86b69e6"
BLOB_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"


class IdentityPart(Part):
    """A user-assigned identity per role of hosts."""

    cloud, kind = "azure", "Identity"

    def __init__(self, *, place: Place, said: AzureSite) -> None:
        super().__init__(place.region.name, place.provider)
        self._place = place
        self._said = said
        self.made = Identity({role: self._identity(role) for role in place.region.roles})
        self.register_outputs({})

    def _identity(self, role: Role) -> pulumi.Output[str]:
        name = f"{self._place.region.name}-{role}"
        made = managedidentity.UserAssignedIdentity(
            name,
            resource_name_=identity_name(self._place.region.site, role),
            resource_group_name=self._place.group,
            location=self._place.region.name,
            tags=self._place.tags,
            opts=self.child(),
        )
        for what, scope, allowed in (
            ("secrets", self._said.vaults.get(role), SECRETS_USER),
            ("artifacts", self._said.artifacts_container, BLOB_READER),
        ):
            if scope is not None:
                authorization.RoleAssignment(
                    f"{name}-{what}",
                    scope=scope,
                    role_definition_id=_definition(scope, allowed),
                    principal_id=made.principal_id,
                    principal_type="ServicePrincipal",
                    opts=self.child(),
                )
        return made.id


def _definition(scope: str, role: str) -> str:
    """Id of a role in the subscription of what it is given for: Azure reads it back so."""
    subscription = "/".join(scope.split("/")[:3])
    return f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"

"""What every component of every cloud shares: its type, its parent, its provider."""

from __future__ import annotations

import pulumi


class Part(pulumi.ComponentResource):
    """One component of a region: 'edge:aws:Network'. Its resources are its children and take its provider."""

    cloud: str
    kind: str

    def __init__(self, region: str, provider: pulumi.ProviderResource) -> None:
        super().__init__(
            f"edge:{self.cloud}:{self.kind}", region, opts=pulumi.ResourceOptions(providers=[provider])
        )
        self._provider = provider

    def child(
        self,
        *,
        depends_on: list[pulumi.Resource] | None = None,
        ignore_changes: list[str] | None = None,
        delete_before_replace: bool | None = None,
    ) -> pulumi.ResourceOptions:
        """Options of a resource of this component."""
        return pulumi.ResourceOptions(
            parent=self,
            provider=self._provider,
            depends_on=depends_on,
            ignore_changes=ignore_changes,
            delete_before_replace=delete_before_replace,
        )

    def kept(self) -> pulumi.ResourceOptions:
        """Options of what outlives hosts and stack: an address that is gone never comes back."""
        return pulumi.ResourceOptions(
            parent=self, provider=self._provider, protect=True, retain_on_delete=True
        )

"""What every component of every cloud shares: its type, its parent, its provider."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pulumi
from edge_iac.plan import Host


def first_boot(host: Host, *properties: str) -> list[str]:
    """Those of ``properties`` whose change leaves ``host`` as it is: all, unless the site renews it.

    What is given at the first boot makes a new host where it changes, another size stops the machine. Were
    they followed, another pinned image in the catalogue, a key more or a larger size would take every host
    of a site away in one `up`.
    """
    return [] if host.renew else list(properties)


_API_VERSION = re.compile(r"^azure-native:[a-z]+/v20\d{6}")


class Part(pulumi.ComponentResource):
    """One component of a region: 'edge:aws:Network'. Its resources are its children and take its provider."""

    cloud: str
    kind: str

    def __init__(self, region: str, provider: pulumi.ProviderResource) -> None:
        super().__init__(
            f"edge:{self.cloud}:{self.kind}",
            region,
            opts=pulumi.ResourceOptions(providers=[provider], transformations=[_as_of_today]),
        )
        self._provider = provider

    def child(
        self,
        *,
        depends_on: list[pulumi.Resource] | None = None,
        ignore_changes: list[str] | None = None,
        delete_before_replace: bool | None = None,
        replace_on_changes: list[str] | None = None,
        called: Sequence[str] = (),
    ) -> pulumi.ResourceOptions:
        """Options of a resource of this component; ``called``: names that it had in earlier stacks."""
        return pulumi.ResourceOptions(
            parent=self,
            provider=self._provider,
            depends_on=depends_on,
            ignore_changes=ignore_changes,
            delete_before_replace=delete_before_replace,
            replace_on_changes=replace_on_changes,
            aliases=[pulumi.Alias(name=name) for name in called] or None,
        )

    def kept(self, *, keeps: bool = True, ignore_changes: list[str] | None = None) -> pulumi.ResourceOptions:
        """Options of what outlives hosts and stack: an address that is gone never comes back.

        ``keeps``: False once the site has given it up; then it goes as anything else.
        """
        return pulumi.ResourceOptions(
            parent=self,
            provider=self._provider,
            protect=keeps,
            retain_on_delete=keeps,
            ignore_changes=ignore_changes,
        )


def _as_of_today(
    made: pulumi.ResourceTransformationArgs,
) -> pulumi.ResourceTransformationResult | None:
    """Leaves out the names that Azure's SDK had for a resource in each version of Azure's API.

    No site ever held a resource by such a name. There are sixty of them for an address alone, each a chain of
    values to wait for: three fifths of the time of a large site. Other aliases stay, ours among them.
    """
    if not made.opts.aliases:
        return None
    made.opts.aliases = [one for one in made.opts.aliases if not _is_api_version(one)]
    return pulumi.ResourceTransformationResult(made.props, made.opts)


def _is_api_version(alias: pulumi.Input[str | pulumi.Alias]) -> bool:
    kind = alias.type_ if isinstance(alias, pulumi.Alias) else None
    return isinstance(kind, str) and _API_VERSION.match(kind) is not None

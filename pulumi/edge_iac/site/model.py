"""The language of a site file: what pulumi/sites/NAME.yaml may say."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, StringConstraints, model_validator

from edge_iac.site.values import (
    AwsPrefix,
    Bucket,
    GcpPrefix,
    GroupName,
    Label,
    Login,
    Network4,
    PortSpan,
    Source,
    SshKey,
    Tag,
)
from xds_agent.model.base import BY_KEY, Count, Flag, Hostname, Model, Name, Text
from xds_agent.model.ports import Ports
from xds_agent.model.quantities import Duration

CloudName = Literal["aws", "gcp", "azure"]
Role = Literal["ingress", "egress", "control", "observability", "workload"]
Size = Literal["small", "medium", "large", "xlarge"]
Lasting = Literal["kept", "released"]


class Pool(Model):
    """Hosts of one kind in one region."""

    role: Role = Field(
        description="What its hosts do: ingress (and l4), egress, control, observability; workload: machines "
        "of your own behind the edge.",
        examples=["ingress"],
    )
    count: Count = Field(default=1, description="How many; they are spread over the zones.", examples=[2])
    size: Size = Field(default="small", description="Size by the catalogue.", examples=["medium"])
    disk_gb: Annotated[int, Field(ge=10, le=4096)] = Field(
        default=30, description="Root disk in GB, always encrypted.", examples=[30]
    )
    groups: tuple[GroupName, ...] = Field(
        default=(),
        description="Further inventory groups of its hosts.",
        examples=[["shop_backends"]],
    )
    forwards: Flag | None = Field(
        default=None,
        description="Whether its hosts may carry packets that are not theirs (source checks off). "
        "By default ingress and egress hosts may.",
        examples=[True],
    )


class RegionSite(Model):
    """One region of a cloud: a network of its own, and its hosts."""

    network: Network4 = Field(
        description="Private range, /16 to /24; overlaps with no other.", examples=["10.10.0.0/16"]
    )
    zones: Annotated[int, Field(ge=1, le=8)] = Field(
        default=1, description="Over how many availability zones the hosts are spread.", examples=[2]
    )
    zone_names: tuple[Text, ...] = Field(
        default=(),
        description="Exactly these zones instead (an account may lack some).",
        examples=[["us-east-1a", "us-east-1c"]],
    )
    ipv6: Flag = Field(
        default=False,
        description="Subnets, hosts and rules have IPv6 beside IPv4; load balancers, names and tunnels stay "
        "IPv4. Refused in Azure; in Google Cloud hosts with a public address only.",
        examples=[True],
    )
    load_balancer: Flag = Field(
        default=True, description="A network load balancer before the ingress hosts.", examples=[True]
    )
    image: Text | None = Field(
        default=None,
        description="Exact image instead of the catalogue's: an AMI id, a self link of Google Cloud, or "
        "publisher:offer:sku:version of Azure.",
        examples=["ami-0123456789abcdef0"],
    )
    renew: tuple[Name, ...] = Field(
        default=(),
        description="Hosts that take what is given at the first boot as it is now (image, logins, host key): "
        "the next `up` replaces those that have it otherwise. All others keep what they booted with.",
        examples=[["edge-aws-us-east-1-1"]],
    )
    addresses: Annotated[dict[Name, Lasting], BY_KEY] = Field(
        default_factory=dict,
        description="Public addresses whose host has gone, or goes with this edit (a load balancer's is "
        "vip-REGION). kept: it waits for a host of that name. released: it is given back to the cloud by the "
        "next `up` after its line is taken out.",
        examples=[{"edge-aws-us-east-1-2": "kept"}],
    )
    leaving: Flag = Field(
        default=False,
        description="Whether the region goes: `up` takes the protection off all that outlives hosts in it, "
        "and once the region is out of the file, the next `up` leaves nothing.",
        examples=[True],
    )
    hosts: Annotated[dict[Label, Pool], BY_KEY] = Field(
        default_factory=dict,
        description="Pools of hosts by name.",
        examples=[{"edge": {"role": "ingress", "count": 2, "size": "medium"}}],
    )


class CloudSite(Model):
    """A cloud: its regions. What names the account differs per cloud."""

    # In the file's order: ports of tunnels are counted by it (`places.in_the_file`).
    regions: dict[Name, RegionSite] = Field(
        description="Regions by the cloud's own name.",
        examples=[{"us-east-1": {"network": "10.10.0.0/16"}}],
    )


class AwsSite(CloudSite):
    """Amazon Web Services."""

    profile: Text | None = Field(
        default=None, description="Profile of the AWS configuration; None: what the environment says."
    )
    account: Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")] | None = Field(
        default=None, description="Account id; any other account is refused.", examples=["123456789012"]
    )
    secrets_prefix: AwsPrefix | None = Field(
        default=None,
        description="Hosts of a role may read secrets of Secrets Manager whose names begin with this, the "
        "role and a slash: edge/prod/ingress/... None: no secret.",
        examples=["edge/prod/"],
    )
    artifacts_bucket: Bucket | None = Field(
        default=None, description="Hosts may read objects of this S3 bucket.", examples=["edge-artifacts"]
    )


class GcpSite(CloudSite):
    """Google Cloud."""

    project: Text = Field(description="Project id.", examples=["edge-prod"])
    secrets_prefix: GcpPrefix | None = Field(
        default=None,
        description="Hosts of a role may read secrets of Secret Manager whose names begin with this, the "
        "role and a hyphen: edge-prod-ingress-... None: no secret.",
        examples=["edge-prod-"],
    )
    artifacts_bucket: Bucket | None = Field(
        default=None, description="Hosts may read objects of this bucket.", examples=["edge-artifacts"]
    )


class AzureSite(CloudSite):
    """Microsoft Azure."""

    subscription: Text | None = Field(
        default=None, description="Subscription id; None: what the environment or the CLI says."
    )
    vaults: Annotated[dict[Role, Text], BY_KEY] = Field(
        default_factory=dict,
        description="Role -> resource id of the Key Vault whose secrets its hosts may read, and no other's.",
        examples=[{"ingress": "/subscriptions/.../providers/Microsoft.KeyVault/vaults/edge-ingress"}],
    )
    artifacts_container: Text | None = Field(
        default=None, description="Resource id of a blob container hosts may read."
    )


class Clouds(Model):
    """The clouds of the site; only those named are touched, and only their SDK is needed."""

    aws: AwsSite | None = Field(default=None, description="Amazon Web Services.")
    gcp: GcpSite | None = Field(default=None, description="Google Cloud.")
    azure: AzureSite | None = Field(default=None, description="Microsoft Azure.")
    _written: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _as_written(cls, said: Any, handler: ModelWrapValidatorHandler["Clouds"]) -> "Clouds":
        made = handler(said)
        if isinstance(said, Mapping):
            made._written = tuple(said)
        return made

    def in_the_file(self) -> list[CloudName]:
        """The clouds that the site has, in the order in which the file names them."""
        return sorted(self.named(), key=self._written.index)

    def named(self) -> dict[CloudName, "AwsSite | GcpSite | AzureSite"]:
        """The clouds that the site has."""
        found: dict[CloudName, AwsSite | GcpSite | AzureSite] = {}
        if self.aws is not None:
            found["aws"] = self.aws
        if self.gcp is not None:
            found["gcp"] = self.gcp
        if self.azure is not None:
            found["azure"] = self.azure
        return found


class Ssh(Model):
    """Who may log in, and from where."""

    user: Login = Field(default="edge", description="Login made on every host, with sudo.", examples=["edge"])
    authorized_keys: Annotated[tuple[SshKey, ...], Field(min_length=1)] = Field(
        description="Public keys that may log in.", examples=[["ssh-ed25519 AAAA... me@example.com"]]
    )
    sources: tuple[Source, ...] = Field(
        default=(),
        description="Ranges that reach port 22, as CIDR. Empty: nobody from outside.",
        examples=[["198.51.100.0/24"]],
    )
    open: Flag = Field(default=False, description="Must be true before sources may hold the whole internet.")
    jump: Literal["ingress", "egress"] | None = Field(
        default=None,
        description="Role whose hosts one logs in through to those without a public address. None: they are "
        "reached by a private way of your own.",
        examples=["egress"],
    )


class Reach(Model):
    """Something that may reach hosts of a role, beyond what the edge itself needs."""

    name: Label = Field(description="Name of the rule.", examples=["shop-tcp"])
    sources: Annotated[tuple[Source, ...], Field(min_length=1)] = Field(
        description="'internet', roles, or ranges as CIDR.", examples=[["internet"]]
    )
    targets: Annotated[tuple[Role, ...], Field(min_length=1)] = Field(
        description="Roles whose hosts are reached.", examples=[["ingress"]]
    )
    protocol: Literal["tcp", "udp", "icmp"] = Field(default="tcp", description="Protocol.")
    ports: tuple[PortSpan, ...] = Field(
        default=(), description="Ports or spans, as text; none for icmp.", examples=[["8443", "9000-9010"]]
    )


class Dns(Model):
    """Where the site's public name is kept, and how clients are sent to regions."""

    provider: CloudName = Field(description="The cloud that holds the zone.", examples=["aws"])
    zone: Text = Field(
        description="Zone id (Route 53), managed zone (Cloud DNS) or resource group/zone (Azure).",
        examples=["Z0123456789ABCDEFGHIJ"],
    )
    name: Hostname = Field(description="The name clients ask for.", examples=["edge.example.com"])
    routing: Literal["latency", "weighted"] = Field(
        default="latency", description="Nearest region, or all equally."
    )
    ttl: Duration = Field(
        default=timedelta(seconds=60), description="How long resolvers keep it.", examples=["60s"]
    )


class Interconnect(Model):
    """Private reach between the regions."""

    type: Literal["none", "wireguard"] = Field(
        default="none",
        description="none: the program makes none (use a transit gateway or peering of your own); wireguard: "
        "tunnels between the first two ingress hosts of each region, and routes to them.",
    )


class Site(Model):
    """A site: where it stands, how large it is, who may reach what."""

    name: Label = Field(description="Name of the site, as the file's.", examples=["prod"])
    description: Text | None = Field(default=None, description="For people.")
    ssh: Ssh = Field(description="Who may log in, and from where.")
    tags: Annotated[dict[Tag, Tag], BY_KEY] = Field(
        default_factory=dict,
        description="On everything that costs money. `owner` is wanted by the policy pack.",
        examples=[{"owner": "platform"}],
    )
    clouds: Clouds = Field(description="The clouds of the site.")
    reach: tuple[Reach, ...] = Field(
        default=(), description="Who may reach what, beyond what the edge itself needs."
    )
    ports: Ports = Field(
        default_factory=Ports, description="Ports of the proxies, where the inventory's `ports` changes them."
    )
    dns: Dns | None = Field(default=None, description="The site's public name.")
    interconnect: Interconnect = Field(
        default_factory=Interconnect, description="Private reach between the regions."
    )

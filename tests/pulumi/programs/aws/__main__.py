"""A small site on AWS, for the tests of the engine: network, group, hosts with addresses, output."""

import pulumi_aws as aws

import pulumi

config = pulumi.Config()
REGION = "us-east-1"
IMAGE = "debian-12-amd64-20250316-2053"
TRUST = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
"Principal": {"Service": "ec2.amazonaws.com"}}]}"""

provider = aws.Provider("home", region=REGION)
of = pulumi.ResourceOptions(provider=provider)
image = aws.ec2.get_ami(
    owners=["136693071363"],
    filters=[{"name": "name", "values": [config.get("image") or IMAGE]}],
    opts=pulumi.InvokeOptions(provider=provider),
)
vpc = aws.ec2.Vpc("vpc", cidr_block=config.get("network") or "10.201.0.0/22", opts=of)
gateway = aws.ec2.InternetGateway("gateway", vpc_id=vpc.id, opts=of)
subnet = aws.ec2.Subnet(
    "outer", vpc_id=vpc.id, cidr_block=config.get("subnet") or "10.201.0.0/26",
    availability_zone=config.get("zone") or f"{REGION}a", opts=of,
)  # fmt: skip
table = aws.ec2.RouteTable("table", vpc_id=vpc.id, opts=of)
aws.ec2.Route(
    "out", route_table_id=table.id, destination_cidr_block="0.0.0.0/0", gateway_id=gateway.id, opts=of
)
aws.ec2.RouteTableAssociation("of-outer", route_table_id=table.id, subnet_id=subnet.id, opts=of)
group = aws.ec2.SecurityGroup("edge", vpc_id=vpc.id, name="edge", description="edge hosts", opts=of)
aws.vpc.SecurityGroupIngressRule(
    "https", security_group_id=group.id, ip_protocol="tcp", from_port=443, to_port=443,
    cidr_ipv4=config.get("clients") or "0.0.0.0/0", opts=of,
)  # fmt: skip
role = aws.iam.Role("edge", name="edge", assume_role_policy=TRUST, opts=of)
profile = aws.iam.InstanceProfile("edge", name="edge", role=role.name, opts=of)
hosts = []
for number in range(1, (config.get_int("hosts") or 2) + 1):
    name = f"edge-aws-{REGION}-{number}"
    host = aws.ec2.Instance(
        name, ami=config.get("ami") or image.id, instance_type=config.get("type") or "c6in.large",
        subnet_id=subnet.id, vpc_security_group_ids=[group.id], iam_instance_profile=profile.name,
        source_dest_check=False, user_data=config.get_secret("hostKey"), user_data_replace_on_change=True,
        tags={"Name": name, "edge-host": name,
              "edge-groups": "ingress l4", "rev": config.get("revision") or "1"},
        opts=pulumi.ResourceOptions(provider=provider, import_=config.get("adopt") if number == 1 else None),
    )  # fmt: skip
    address = aws.ec2.Eip(name, domain="vpc", opts=of)
    aws.ec2.EipAssociation(
        name, allocation_id=address.id, instance_id=host.id,
        opts=pulumi.ResourceOptions(provider=provider, depends_on=[gateway]),
    )  # fmt: skip
    hosts.append(
        {
            "name": name, "id": host.id, "cloud": "aws", "region": REGION, "zone": f"{REGION}a",
            "groups": ["ingress", "l4"], "address": address.public_ip, "private_address": host.private_ip,
            "user": "admin",
            "nic": {"driver": "ena", "queues": 2, "mtu": 9001, "xdp": "native"}, "labels": {},
        }
    )  # fmt: skip
pulumi.export(
    "edge_inventory",
    {
        "schema": "edge.inventory/v1", "site": pulumi.get_stack(), "ssh_ca": "ssh-ed25519 AAAATEST site",
        "vips": [], "hosts": hosts,
    },
)  # fmt: skip

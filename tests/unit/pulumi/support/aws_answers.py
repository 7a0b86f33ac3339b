"""Two clouds that answer the AWS program: the simulated one, and moto's, and what each holds afterwards.

What a cloud holds is described in names of the program, since each makes ids of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from edge_iac.catalogue import images
from pulumi.runtime import MockCallArgs, MockResourceArgs, rpc
from simcloud.aws import CLOUD
from simcloud.cloud import Account
from simcloud.world import Record, Store

from tests.unit.pulumi.support.answers import Answers
from tests.unit.pulumi.support.graph import whole

Inputs = dict[str, Any]
Made = tuple[str, Inputs]
TARGETS = ("gatewayId", "natGatewayId", "networkInterfaceId")
RULE_SOURCES = ("cidrIpv4", "referencedSecurityGroupId")


class AwsAnswers(Answers):
    """Keeps which name each id stands for; other clouds' resources are answered as ever."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.names: dict[str, str] = {}

    def new_resource(self, args: MockResourceArgs) -> Made:
        if not args.custom or not args.typ.startswith("aws:"):
            return super().new_resource(args)
        inputs = {key: whole(rpc.unwrap_rpc_secret(value)) for key, value in args.inputs.items()}
        identity, outputs = self.make(args.typ, args.name, inputs)
        self.names[identity] = args.name
        if interface := outputs.get("primaryNetworkInterfaceId"):
            self.names[interface] = args.name
        return identity, {**args.inputs, **outputs}

    @abstractmethod
    def make(self, token: str, name: str, inputs: Inputs) -> Made:
        """Make one resource; its id and what the cloud says of it."""

    def named(self, identity: Any) -> str:
        return self.names.get(str(identity), str(identity))


class Simulated(AwsAnswers):
    """The simulated cloud, without the protocol around it."""

    def __init__(self, region: str, folder: Path) -> None:
        super().__init__(region)
        self.account = Account(CLOUD, Store(folder, "aws"), {"region": region})

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        return self.account.ask(args.token, args.args), []

    def make(self, token: str, name: str, inputs: Inputs) -> Made:
        inputs, wrong = self.account.check(token, name, inputs, {}, b"1234")
        assert not wrong, wrong
        record = self.account.create(token, name, f"urn:{token}:{name}", inputs)
        return record.id, record.outputs

    def held(self) -> dict[str, Any]:
        world = self.account.store.read()

        def of(word: str) -> list[Record]:
            return [record for record in world.records if record.token.endswith(f":{word}")]

        rules: dict[str, list[tuple[Any, ...]]] = {self.named(group.id): [] for group in of("SecurityGroup")}
        for direction, word in (("in", "SecurityGroupIngressRule"), ("out", "SecurityGroupEgressRule")):
            for record in of(word):
                said = record.inputs
                source = next(self.named(said[key]) for key in RULE_SOURCES if said.get(key))
                ports = (said.get("fromPort", -1), said.get("toPort", -1))
                rules[self.named(said["securityGroupId"])].append(
                    (direction, said["ipProtocol"], *ports, source)
                )
        tables: dict[str, dict[str, str]] = {self.named(table.id): {} for table in of("RouteTable")}
        for route in of("Route"):
            target = next(self.named(route.inputs[key]) for key in TARGETS if route.inputs.get(key))
            tables[self.named(route.inputs["routeTableId"])][route.inputs["destinationCidrBlock"]] = target
        return {
            "subnets": {
                self.named(one.id): (one.inputs["cidrBlock"], one.inputs["availabilityZone"])
                for one in of("Subnet")
            },
            "rules": {name: sorted(found) for name, found in rules.items()},
            "tables": tables,
            "instances": {
                self.named(one.id): {
                    "type": one.inputs["instanceType"],
                    "subnet": self.named(one.inputs["subnetId"]),
                    "groups": [self.named(group) for group in one.inputs["vpcSecurityGroupIds"]],
                    "checks": one.outputs["sourceDestCheck"],
                }
                for one in of("Instance")
            },
            "addresses": len(of("Eip")),
        }


class Moto(AwsAnswers):
    """moto's AWS, asked through boto3 as the provider would."""

    def __init__(self, region: str) -> None:
        super().__init__(region)
        self.ec2 = boto3.client("ec2", region_name=region)
        self.iam = boto3.client("iam", region_name=region)
        self.elb = boto3.client("elbv2", region_name=region)
        self.ec2.register_image(Name=images.AWS_NAME, RootDeviceName="/dev/xvda", Architecture="x86_64")
        self._makers: dict[str, Callable[[str, Inputs], Made]] = {
            "Vpc": self._vpc, "InternetGateway": self._gateway, "Subnet": self._subnet,
            "RouteTable": self._table, "Route": self._route, "RouteTableAssociation": self._association,
            "Eip": self._address, "EipAssociation": self._attach, "NatGateway": self._nat,
            "SecurityGroup": self._group, "SecurityGroupIngressRule": self._rule,
            "SecurityGroupEgressRule": self._rule, "Role": self._role, "RolePolicy": self._policy,
            "InstanceProfile": self._profile, "Instance": self._instance, "LoadBalancer": self._balancer,
            "TargetGroup": self._targets, "Listener": self._listener, "TargetGroupAttachment": self._target,
        }  # fmt: skip

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        wanted = [{"Name": one["name"], "Values": one["values"]} for one in args.args["filters"]]
        [image] = self.ec2.describe_images(Filters=wanted)["Images"]
        return {"id": image["ImageId"]}, []

    def make(self, token: str, name: str, inputs: Inputs) -> Made:
        return self._makers[token.rpartition(":")[2]](name, inputs)

    def _vpc(self, name: str, said: Inputs) -> Made:
        return self.ec2.create_vpc(CidrBlock=said["cidrBlock"])["Vpc"]["VpcId"], {}

    def _gateway(self, name: str, said: Inputs) -> Made:
        made = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=made, VpcId=said["vpcId"])
        return made, {}

    def _subnet(self, name: str, said: Inputs) -> Made:
        made = self.ec2.create_subnet(
            VpcId=said["vpcId"], CidrBlock=said["cidrBlock"], AvailabilityZone=said["availabilityZone"]
        )
        return made["Subnet"]["SubnetId"], {}

    def _table(self, name: str, said: Inputs) -> Made:
        return self.ec2.create_route_table(VpcId=said["vpcId"])["RouteTable"]["RouteTableId"], {}

    def _route(self, name: str, said: Inputs) -> Made:
        target = {_capital(key): said[key] for key in TARGETS if said.get(key)}
        self.ec2.create_route(
            RouteTableId=said["routeTableId"], DestinationCidrBlock=said["destinationCidrBlock"], **target
        )
        return f"r-{name}", {}

    def _association(self, name: str, said: Inputs) -> Made:
        made = self.ec2.associate_route_table(RouteTableId=said["routeTableId"], SubnetId=said["subnetId"])
        return made["AssociationId"], {}

    def _address(self, name: str, said: Inputs) -> Made:
        made = self.ec2.allocate_address(Domain=said["domain"])
        return made["AllocationId"], {"publicIp": made["PublicIp"]}

    def _attach(self, name: str, said: Inputs) -> Made:
        made = self.ec2.associate_address(AllocationId=said["allocationId"], InstanceId=said["instanceId"])
        return made["AssociationId"], {}

    def _nat(self, name: str, said: Inputs) -> Made:
        made = self.ec2.create_nat_gateway(SubnetId=said["subnetId"], AllocationId=said["allocationId"])
        return made["NatGateway"]["NatGatewayId"], {}

    def _group(self, name: str, said: Inputs) -> Made:
        made = self.ec2.create_security_group(
            GroupName=said["name"], Description=said["description"], VpcId=said["vpcId"]
        )["GroupId"]
        # What every new group lets out, the provider takes away: rules stand by themselves.
        [group] = self.ec2.describe_security_groups(GroupIds=[made])["SecurityGroups"]
        self.ec2.revoke_security_group_egress(GroupId=made, IpPermissions=group["IpPermissionsEgress"])
        return made, {}

    def _rule(self, name: str, said: Inputs) -> Made:
        permission: Inputs = {"IpProtocol": said["ipProtocol"]}
        permission |= {_capital(key): said[key] for key in ("fromPort", "toPort") if key in said}
        if said.get("cidrIpv4"):
            permission["IpRanges"] = [{"CidrIp": said["cidrIpv4"]}]
        else:
            permission["UserIdGroupPairs"] = [{"GroupId": said["referencedSecurityGroupId"]}]
        egress = "-out-" in name
        ask = (
            self.ec2.authorize_security_group_egress if egress else self.ec2.authorize_security_group_ingress
        )
        made = ask(GroupId=said["securityGroupId"], IpPermissions=[permission])
        return made["SecurityGroupRules"][0]["SecurityGroupRuleId"], {}

    def _role(self, name: str, said: Inputs) -> Made:
        made = self.iam.create_role(RoleName=said["name"], AssumeRolePolicyDocument=said["assumeRolePolicy"])
        return said["name"], {"arn": made["Role"]["Arn"], "name": said["name"]}

    def _policy(self, name: str, said: Inputs) -> Made:
        self.iam.put_role_policy(
            RoleName=said["role"], PolicyName=said["name"], PolicyDocument=said["policy"]
        )
        return f"{said['role']}:{said['name']}", {}

    def _profile(self, name: str, said: Inputs) -> Made:
        self.iam.create_instance_profile(InstanceProfileName=said["name"])
        self.iam.add_role_to_instance_profile(InstanceProfileName=said["name"], RoleName=said["role"])
        return said["name"], {"name": said["name"]}

    def _instance(self, name: str, said: Inputs) -> Made:
        [made] = self.ec2.run_instances(
            ImageId=said["ami"], InstanceType=said["instanceType"], SubnetId=said["subnetId"],
            SecurityGroupIds=said["vpcSecurityGroupIds"], MinCount=1, MaxCount=1,
            IamInstanceProfile={"Name": said["iamInstanceProfile"]}, UserData=said["userData"],
        )["Instances"]  # fmt: skip
        self.ec2.modify_instance_attribute(
            InstanceId=made["InstanceId"], SourceDestCheck={"Value": said["sourceDestCheck"]}
        )
        interface = made["NetworkInterfaces"][0]["NetworkInterfaceId"]
        return made["InstanceId"], {
            "privateIp": made["PrivateIpAddress"], "primaryNetworkInterfaceId": interface,
            "ipv6Addresses": [],
        }  # fmt: skip

    def _balancer(self, name: str, said: Inputs) -> Made:
        mappings = list(map(_capitals, said["subnetMappings"]))
        [made] = self.elb.create_load_balancer(
            Name=said["name"], Type=said["loadBalancerType"], SubnetMappings=mappings,
            SecurityGroups=said["securityGroups"],
        )["LoadBalancers"]  # fmt: skip
        return made["LoadBalancerArn"], {"arn": made["LoadBalancerArn"], "dnsName": made["DNSName"]}

    def _targets(self, name: str, said: Inputs) -> Made:
        [made] = self.elb.create_target_group(
            Name=said["name"], Protocol=said["protocol"], Port=said["port"], VpcId=said["vpcId"],
            TargetType=said["targetType"], HealthCheckProtocol=said["healthCheck"]["protocol"],
        )["TargetGroups"]  # fmt: skip
        return made["TargetGroupArn"], {"arn": made["TargetGroupArn"]}

    def _listener(self, name: str, said: Inputs) -> Made:
        [made] = self.elb.create_listener(
            LoadBalancerArn=said["loadBalancerArn"], Protocol=said["protocol"], Port=said["port"],
            DefaultActions=list(map(_capitals, said["defaultActions"])),
        )["Listeners"]  # fmt: skip
        return made["ListenerArn"], {"arn": made["ListenerArn"]}

    def _target(self, name: str, said: Inputs) -> Made:
        self.elb.register_targets(TargetGroupArn=said["targetGroupArn"], Targets=[{"Id": said["targetId"]}])
        return f"attachment-{name}", {}

    def held(self) -> dict[str, Any]:
        ours = {"Name": "vpc-id", "Values": [id_ for id_ in self.names if id_.startswith("vpc-")]}
        return {
            "subnets": {
                self.named(one["SubnetId"]): (one["CidrBlock"], one["AvailabilityZone"])
                for one in self.ec2.describe_subnets(Filters=[ours])["Subnets"]
            },
            "rules": {
                self.named(one["GroupId"]): sorted(self._rules(one))
                for one in self.ec2.describe_security_groups(Filters=[ours])["SecurityGroups"]
                if one["GroupName"] != "default"
            },
            "tables": {
                self.named(one["RouteTableId"]): self._routes(one)
                for one in self.ec2.describe_route_tables(Filters=[ours])["RouteTables"]
                if one["RouteTableId"] in self.names
            },
            "instances": {
                self.named(one["InstanceId"]): {
                    "type": one["InstanceType"],
                    "subnet": self.named(one["SubnetId"]),
                    "groups": [self.named(group["GroupId"]) for group in one["SecurityGroups"]],
                    "checks": one["SourceDestCheck"],
                }
                for found in self.ec2.describe_instances()["Reservations"]
                for one in found["Instances"]
            },
            "addresses": len(self.ec2.describe_addresses()["Addresses"]),
        }

    def _rules(self, group: Inputs) -> list[tuple[Any, ...]]:
        found = []
        for direction, key in (("in", "IpPermissions"), ("out", "IpPermissionsEgress")):
            for one in group[key]:
                sources = [each["CidrIp"] for each in one.get("IpRanges", [])]
                sources += [self.named(each["GroupId"]) for each in one.get("UserIdGroupPairs", [])]
                ports = (one.get("FromPort", -1), one.get("ToPort", -1))
                found += [(direction, one["IpProtocol"], *ports, source) for source in sources]
        return found

    def _routes(self, table: Inputs) -> dict[str, str]:
        targets = tuple(map(_capital, TARGETS))
        return {
            one["DestinationCidrBlock"]: self.named(next(one[key] for key in targets if one.get(key)))
            for one in table["Routes"]
            if one.get("GatewayId") != "local"
        }


def _capital(key: str) -> str:
    return key[0].upper() + key[1:]


def _capitals(said: Inputs) -> Inputs:
    return {_capital(key): value for key, value in said.items()}

"""What clouds answer, as far as the programs read it: enough to run them, no simulation."""

from __future__ import annotations

import hashlib
from typing import Any

from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"


class Answers(Mocks):
    """Ids made from names, so that a graph is the same each time."""

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        if args.token == "aws:ec2/getAmi:getAmi":
            return {"id": "ami-0123456789abcdef0", "name": args.args["filters"][0]["values"][0]}, []
        raise AssertionError(f"unexpected call {args.token}")

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if not args.custom:
            return "", {}
        number = int(hashlib.sha256(f"{args.typ} {args.name}".encode()).hexdigest()[:6], 16)
        public = f"198.{18 + number % 2}.{number >> 8 & 255}.{number & 255}"
        private = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        identity = f"{args.name}-id"
        more: dict[str, Any] = {}
        match args.typ:
            case "aws:ec2/eip:Eip":
                more = {"publicIp": public}
            case "aws:ec2/vpc:Vpc":
                more = {"ipv6CidrBlock": "2001:db8:0:aa00::/56"}
            case "aws:ec2/instance:Instance":
                more = {"privateIp": private, "ipv6Addresses": ["2001:db8::1"]}
                more["primaryNetworkInterfaceId"] = f"eni-{number}"
            case "aws:lb/loadBalancer:LoadBalancer" | "aws:lb/targetGroup:TargetGroup":
                more = {"arn": f"arn:aws:elasticloadbalancing:::{args.name}", "dnsName": f"{args.name}.test"}
            case "gcp:compute/address:Address":
                more = {"address": public, "selfLink": f"links/{args.name}"}
            case "gcp:compute/instance:Instance":
                one = {**args.inputs["networkInterfaces"][0], "networkIp": private}
                more = {
                    "networkInterfaces": [one],
                    "instanceId": str(number),
                    "selfLink": f"links/{args.name}",
                }
            case "gcp:serviceaccount/account:Account":
                more = {"email": f"{args.inputs['accountId']}@project.test"}
            case "azure-native:network:PublicIPAddress":
                more = {"ipAddress": public}
            case "azure-native:network:NetworkInterface":
                one = {**args.inputs["ipConfigurations"][0], "privateIPAddress": private}
                more = {"ipConfigurations": [one]}
            case "azure-native:network:LoadBalancer":
                pools = args.inputs["backendAddressPools"]
                more = {
                    "backendAddressPools": [
                        {**pool, "id": f"{identity}/pools/{pool['name']}"} for pool in pools
                    ]
                }
            case "azure-native:managedidentity:UserAssignedIdentity":
                more = {"principalId": f"principal-{args.name}"}
            case "azure-native:compute:VirtualMachine":
                # A list of ids goes in, a mapping comes out.
                who = args.inputs["identity"]["userAssignedIdentities"]
                more = {
                    "vmId": f"vm-{number}",
                    "identity": {
                        **args.inputs["identity"],
                        "userAssignedIdentities": {one: {} for one in who},
                    },
                }
            case _ if args.typ.startswith("gcp:compute/"):
                more = {"selfLink": f"links/{args.typ.rpartition(':')[2]}/{args.name}"}
        if args.typ.startswith("azure-native:"):
            identity = f"{SUBSCRIPTION}/{args.typ.rpartition(':')[2]}/{args.name}"
            more |= {"name": _azure_name(args.inputs) or args.name}
        return identity, {"name": args.name, **args.inputs, **more}


def _azure_name(inputs: dict[str, Any]) -> str | None:
    for key in ("resourceGroupName", "virtualNetworkName", "networkSecurityGroupName"):
        names = [key for key in inputs if key.endswith("Name")]
        if names == [key] or (key != "resourceGroupName" and key in inputs):
            return str(inputs[key])
    return None

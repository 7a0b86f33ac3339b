"""What the policy pack lets pass and what it refuses: one table for the rules and for the wire."""

from __future__ import annotations

import json
from typing import Any

from edge_policy.costs import untagged
from edge_policy.hosts import open_metadata, plain_disk, unpinned_image
from edge_policy.network import open_ssh, public_control
from edge_policy.roles import wide_role

INSTANCE = "aws:ec2/instance:Instance"
GOOGLE = "gcp:compute/instance:Instance"
MACHINE = "azure-native:compute:VirtualMachine"
NIC = "azure-native:network:NetworkInterface"
AWS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
FIREWALL = "gcp:compute/firewall:Firewall"
AZURE_RULE = "azure-native:network:SecurityRule"
ROLE, IAM_ROLE = "aws:iam/rolePolicy:RolePolicy", "aws:iam/role:Role"
DISK = "azure-native:compute:Disk"
BUCKET_MEMBER = "gcp:storage/bucketIAMMember:BucketIAMMember"
SECRETS_USER = "4633458b-17de-408a-874c-0445c86b69e6"
MEMBER = "gcp:projects/iAMMember:IAMMember"
ASSIGNMENT = "azure-native:authorization:RoleAssignment"
SUBSCRIPTION = "/subscriptions/1"
VAULT = f"{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v"


def aws_rule(**props: Any) -> dict[str, Any]:
    return {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22, "cidrIpv4": "0.0.0.0/0", **props}


def firewall(**props: Any) -> dict[str, Any]:
    return {
        "direction": "INGRESS",
        "sourceRanges": ["0.0.0.0/0"],
        "allows": [{"protocol": "tcp", "ports": ["22"]}],
        **props,
    }


def azure_rule(**props: Any) -> dict[str, Any]:
    return {
        "access": "Allow",
        "direction": "Inbound",
        "protocol": "Tcp",
        "sourceAddressPrefix": "*",
        **({} if "destinationPortRange" in props else {"destinationPortRanges": ["22"]}),
        **props,
    }


def policy(action: str, resource: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": [action], "Resource": [resource]}
    return {"policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}


BEGINS = 'resource.name.extract("/secrets/{name}/").startsWith("edge-prod-ingress-")'
ACCESSOR = "roles/secretmanager.secretAccessor"
SECRET = "arn:aws:secretsmanager:*:1:secret:edge/*"
LETS = [
    (open_ssh, AWS_RULE, aws_rule(cidrIpv4="198.51.100.0/24")),
    (open_ssh, AWS_RULE, aws_rule(fromPort=443, toPort=443)),
    (open_ssh, AWS_RULE, aws_rule(ipProtocol="udp")),
    (open_ssh, AWS_RULE, {"ipProtocol": "-1", "referencedSecurityGroupId": "sg-1"}),
    (open_ssh, FIREWALL, firewall(sourceRanges=["10.0.0.0/8"])),
    (open_ssh, FIREWALL, firewall(sourceRanges=None, sourceTags=["a"])),
    (open_ssh, FIREWALL, firewall(direction="EGRESS")),
    (open_ssh, AZURE_RULE, azure_rule(sourceAddressPrefix="AzureLoadBalancer")),
    (open_ssh, AZURE_RULE, azure_rule(access="Deny", destinationPortRange="*")),
    (open_ssh, AZURE_RULE, azure_rule(destinationPortRanges=["80", "443"])),
    (plain_disk, INSTANCE, {"rootBlockDevice": {"encrypted": True}}),
    (plain_disk, MACHINE, {"securityProfile": {"encryptionAtHost": True}}),
    (plain_disk, GOOGLE, {}),
    (plain_disk, DISK, {"encryption": {"type": "EncryptionAtRestWithPlatformKey"}}),
    (unpinned_image, INSTANCE, {"ami": "ami-0123456789abcdef0"}),
    (unpinned_image, GOOGLE, {"bootDisk": {"initializeParams": {"image": "projects/p/global/images/i-v1"}}}),
    (unpinned_image, MACHINE, {"storageProfile": {"imageReference": {"id": "/subscriptions/1/images/x"}}}),
    (wide_role, ROLE, policy("secretsmanager:GetSecretValue", SECRET)),
    (wide_role, ROLE, policy("s3:GetObject", "arn:aws:s3:::artefacts/*")),
    (wide_role, MEMBER, {"role": "roles/secretmanager.secretAccessor", "condition": {"expression": BEGINS}}),
    (wide_role, ROLE, policy("ec2:DescribeRouteTables", "*")),
    (wide_role, ROLE, policy("ec2:ReplaceRoute", "arn:aws:ec2:us-east-1:*:route-table/rtb-1")),
    (wide_role, IAM_ROLE, {"assumeRolePolicy": "{}"}),
    (wide_role, "aws:iam/instanceProfile:InstanceProfile", {"role": "edge"}),
    (wide_role, BUCKET_MEMBER, {"role": "roles/storage.objectViewer"}),
    (wide_role, ASSIGNMENT, {"scope": VAULT, "roleDefinitionId": f"/x/{SECRETS_USER}"}),
    (public_control, INSTANCE, {"tags": {"edge-role": "control"}, "associatePublicIpAddress": False}),
    (
        public_control,
        GOOGLE,
        {"labels": {"edge-role": "ingress"}, "networkInterfaces": [{"accessConfigs": [{}]}]},
    ),
    (open_metadata, INSTANCE, {"metadataOptions": {"httpTokens": "required"}}),
    (untagged, INSTANCE, {"tags": {"owner": "a", "edge-site": "b"}}),
    (untagged, "aws:ec2/route:Route", {}),
]
REFUSES = [
    (open_ssh, AWS_RULE, aws_rule(), "opens SSH to everybody"),
    (open_ssh, AWS_RULE, aws_rule(cidrIpv4=None, cidrIpv6="::/0"), "opens SSH"),
    (open_ssh, AWS_RULE, aws_rule(cidrIpv4="128.0.0.0/1"), "opens SSH"),
    (open_ssh, AWS_RULE, aws_rule(fromPort=20, toPort=30), "opens SSH"),
    (open_ssh, AWS_RULE, {"ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0"}, "opens SSH"),
    (
        open_ssh,
        "aws:ec2/securityGroup:SecurityGroup",
        {"ingress": [{"protocol": "tcp", "fromPort": 0, "toPort": 65535, "cidrBlocks": ["0.0.0.0/0"]}]},
        "opens SSH",
    ),
    (open_ssh, FIREWALL, firewall(), "opens SSH"),
    (open_ssh, FIREWALL, firewall(allows=[{"protocol": "tcp"}]), "opens SSH"),
    (open_ssh, FIREWALL, firewall(allows=[{"protocol": "all"}]), "opens SSH"),
    (open_ssh, FIREWALL, firewall(sourceRanges=None), "opens SSH"),
    (open_ssh, AZURE_RULE, azure_rule(), "opens SSH"),
    (open_ssh, AZURE_RULE, azure_rule(protocol="*", destinationPortRange="*"), "opens SSH"),
    (open_ssh, AZURE_RULE, azure_rule(sourceAddressPrefix="Internet"), "opens SSH"),
    (
        open_ssh,
        "azure-native:network:NetworkSecurityGroup",
        {"securityRules": [azure_rule(destinationPortRanges=["20-25"])]},
        "opens SSH",
    ),
    (plain_disk, INSTANCE, {}, "not encrypted"),
    (
        plain_disk,
        INSTANCE,
        {"rootBlockDevice": {"encrypted": True}, "ebsBlockDevices": [{"encrypted": False}]},
        "not encrypted",
    ),
    (plain_disk, "aws:ebs/volume:Volume", {"encrypted": False}, "not encrypted"),
    (plain_disk, DISK, {"diskSizeGB": 10}, "does not say how it is encrypted"),
    (plain_disk, MACHINE, {}, "not encrypted on its host"),
    (unpinned_image, INSTANCE, {}, "is not an AMI id"),
    (
        unpinned_image,
        GOOGLE,
        {"bootDisk": {"initializeParams": {"image": "projects/debian-cloud/global/images/family/debian-12"}}},
        "names a family",
    ),
    (
        unpinned_image,
        GOOGLE,
        {"bootDisk": {"initializeParams": {"image": "debian-cloud/debian-12"}}},
        "self link",
    ),
    (
        unpinned_image,
        MACHINE,
        {
            "storageProfile": {
                "imageReference": {"publisher": "d", "offer": "d", "sku": "1", "version": "latest"}
            }
        },
        "names the latest version",
    ),
    (wide_role, ROLE, policy("s3:*", "arn:aws:s3:::artefacts/*"), "allows s3:*"),
    (wide_role, ROLE, policy("iam:PassRole", "arn:aws:iam::1:role/*"), "allows iam:PassRole"),
    (wide_role, ROLE, policy("ec2:Describe*", "*"), "allows ec2:Describe*"),
    (wide_role, ROLE, policy("ec2:ReplaceRoute", "arn:aws:ec2:us-east-1:*:route-table/*"), "reaches"),
    (
        wide_role,
        IAM_ROLE,
        {"managedPolicyArns": ["arn:aws:iam::aws:policy/AdministratorAccess"]},
        "attaches arn:aws:iam::aws:policy/AdministratorAccess",
    ),
    (wide_role, IAM_ROLE, {"inlinePolicies": [{"name": "all", **policy("*:*", "*")}]}, "allows *:*"),
    (wide_role, "aws:iam/userPolicy:UserPolicy", policy("iam:CreateUser", "*"), "allows iam:CreateUser"),
    (
        wide_role,
        "aws:iam/rolePolicyAttachmentsExclusive:RolePolicyAttachmentsExclusive",
        {"policyArns": ["arn:aws:iam::aws:policy/AdministratorAccess"]},
        "attaches",
    ),
    (wide_role, ROLE, policy("s3:GetObject", "*"), "reaches *"),
    (
        wide_role,
        ROLE,
        policy("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:1:secret:*"),
        "reaches",
    ),
    (
        wide_role,
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        {"policyArn": "arn:x"},
        "attaches arn:x",
    ),
    *(
        (
            wide_role,
            ROLE,
            policy("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:*:1:secret:{name}"),
            "reaches",
        )
        for name in ("*ingress/*", "edge/*/x", "edge/?/*", "/*")
    ),
    *(
        (wide_role, ROLE, policy("s3:GetObject", f"arn:aws:s3:::{name}"), "reaches")
        for name in ("e*/*", "*", "*/*", "?rtefacts/*", "artefacts*")
    ),
    *(
        (
            wide_role,
            MEMBER,
            {"role": ACCESSOR, "condition": {"expression": text}},
            "every secret of the project",
        )
        for text in (
            "true",
            'true || resource.name.startsWith("x")',
            'resource.name.startsWith("")',
            f"{BEGINS} || true",
        )
    ),
    (wide_role, MEMBER, {"role": "roles/editor"}, "gives roles/editor"),
    (wide_role, MEMBER, {"role": "roles/compute.admin"}, "gives roles/compute.admin"),
    (wide_role, MEMBER, {"role": "roles/compute.instanceAdmin.v1"}, "gives roles/compute.instanceAdmin.v1"),
    (wide_role, MEMBER, {"role": "roles/iam.serviceAccountTokenCreator"}, "gives roles/iam."),
    (wide_role, "gcp:projects/iAMPolicy:IAMPolicy", {"policyData": "{}"}, "gives a policy as a whole"),
    (wide_role, "gcp:serviceaccount/iAMMember:IAMMember", {"role": "roles/x"}, "nothing is given there"),
    (wide_role, "gcp:folder/iAMBinding:IAMBinding", {"role": "roles/viewer"}, "nothing is given there"),
    (wide_role, BUCKET_MEMBER, {"role": "roles/storage.admin"}, "gives roles/storage.admin"),
    (wide_role, MEMBER, {"role": "roles/secretmanager.secretAccessor"}, "every secret of the project"),
    (
        wide_role,
        ASSIGNMENT,
        {"scope": SUBSCRIPTION, "roleDefinitionId": f"/x/{SECRETS_USER}"},
        "a whole subscription",
    ),
    (
        wide_role,
        ASSIGNMENT,
        {"scope": f"{SUBSCRIPTION}/resourceGroups/g", "roleDefinitionId": f"/x/{SECRETS_USER}"},
        "group",
    ),
    (
        wide_role,
        ASSIGNMENT,
        {"scope": VAULT, "roleDefinitionId": "/x/b24988ac-6180-42a0-ab88-20f7382dd24c"},
        "gives the role b24988ac",
    ),
    (wide_role, "azure-native:authorization:RoleDefinition", {}, "makes a role of its own"),
    (
        public_control,
        INSTANCE,
        {"tags": {"edge-role": "control"}, "associatePublicIpAddress": True},
        "public",
    ),
    (
        public_control,
        GOOGLE,
        {"labels": {"edge-role": "control"}, "networkInterfaces": [{"accessConfigs": [{"natIp": "x"}]}]},
        "public",
    ),
    (
        public_control,
        NIC,
        {"tags": {"edge-role": "control"}, "ipConfigurations": [{"publicIPAddress": {"id": "x"}}]},
        "public",
    ),
    (open_metadata, INSTANCE, {}, "without a token"),
    (untagged, INSTANCE, {"tags": {"edge-site": "b"}}, "has no tag owner"),
    (untagged, MACHINE, {}, "no tag owner and no tag edge-site"),
]

"""The rules as a Pulumi policy pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from edge_policy.costs import untagged
from edge_policy.hosts import open_metadata, plain_disk, unpinned_image
from edge_policy.network import open_ssh, public_control, public_control_stack
from edge_policy.reading import Props
from edge_policy.roles import wide_role

Rule = Callable[[str, Props], Iterator[str]]

RULES: dict[str, tuple[str, Rule]] = {
    "no-open-ssh": ("SSH is never open to everybody", open_ssh),
    "encrypted-disks": ("Every disk is encrypted", plain_disk),
    "pinned-images": ("Every host boots from one exact image", unpinned_image),
    "narrow-roles": ("Hosts may do what is named, and nothing wide", wide_role),
    "private-control": ("Control hosts have no public address", public_control),
    "metadata-by-token": ("Metadata is handed out by token only", open_metadata),
    "cost-tags": ("What costs money says whose it is", untagged),
}


def policies() -> list[Policy]:
    """Every rule as a policy of Pulumi."""
    found: list[Policy] = [
        ResourceValidationPolicy(name=name, description=description, validate=_validating(rule))
        for name, (description, rule) in RULES.items()
    ]
    found.append(
        StackValidationPolicy(
            name="private-control-addresses",
            description="No elastic address is put on a control host",
            validate=_stack,
        )
    )
    return found


def serve() -> None:
    """Answers the engine until it ends."""
    PolicyPack(name="edge", enforcement_level=EnforcementLevel.MANDATORY, policies=policies())


def _validating(rule: Rule) -> Callable[[ResourceValidationArgs, ReportViolation], None]:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for sentence in rule(args.resource_type, args.props):
            report(f"{args.name} {sentence}", args.urn)

    return validate


def _stack(args: StackValidationArgs, report: ReportViolation) -> None:
    resources = [(one.resource_type, one.name, one.props) for one in args.resources]
    for name, sentence in public_control_stack(resources):
        report(f"{name} {sentence}", None)

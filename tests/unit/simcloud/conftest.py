"""The simulated clouds without the protocol around them; they need nothing of Pulumi."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PULUMI = str(Path(__file__).parents[3] / "pulumi")
if PULUMI not in sys.path:
    sys.path.append(PULUMI)

from simcloud.aws import CLOUD as AWS  # noqa: E402
from simcloud.cloud import Account  # noqa: E402
from simcloud.world import Record, Store  # noqa: E402

REGION = "us-east-1"


class Aws:
    """An account of AWS in which a test makes things by their short names."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.account = Account(AWS, Store(folder, "aws"), {"region": REGION}, pause=self._pause, **options)
        self.paused_s: list[float] = []

    def _pause(self, seconds: float) -> None:
        self.paused_s.append(seconds)

    def make(self, token: str, name: str = "one", **inputs: Any) -> Record:
        inputs, wrong = self.account.check(token, name, inputs, {}, b"\x01\x02\x03\x04")
        assert not wrong, wrong
        return self.account.create(token, name, f"urn:{token}:{name}", inputs)

    def vpc(self, range_: str = "10.0.0.0/16") -> Record:
        return self.make("aws:ec2/vpc:Vpc", cidrBlock=range_)

    def subnet(self, vpc: Record, range_: str, name: str = "one") -> Record:
        token = "aws:ec2/subnet:Subnet"
        return self.make(token, name, vpcId=vpc.id, cidrBlock=range_, availabilityZone=f"{REGION}a")

    def instance(self, subnet: Record, name: str = "one", **inputs: Any) -> Record:
        from simcloud.aws.facts import images

        image = next(iter(images(REGION)))
        given = {"ami": image, "instanceType": "t3.micro", "subnetId": subnet.id, **inputs}
        return self.make("aws:ec2/instance:Instance", name, **given)

    def held(self) -> list[Record]:
        return self.account.store.read().records


@pytest.fixture
def aws(tmp_path: Path) -> Aws:
    return Aws(tmp_path)


@pytest.fixture
def aws_with(tmp_path: Path) -> Callable[..., Aws]:
    return lambda **options: Aws(tmp_path, **options)

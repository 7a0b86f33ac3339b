"""The simulated clouds as answers to a program, without engine and protocol between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, rpc
from simcloud.aws import CLOUD as AWS
from simcloud.azure import CLOUD as AZURE
from simcloud.cloud import Account
from simcloud.gcp import CLOUD as GCP
from simcloud.packets import Guarded, guarded
from simcloud.world import Store

from tests.unit.pulumi.support.graph import whole

ACCOUNTS = (
    (AWS, {"region": "us-east-1"}),
    (GCP, {"project": "p", "region": "us-central1"}),
    (AZURE, {"subscriptionId": "00000000-0000-0000-0000-000000000000", "location": "eastus"}),
)


class SimulatedClouds(Mocks):
    """One account in each cloud, all in one folder."""

    def __init__(self, folder: Path) -> None:
        self.accounts = {
            cloud.name: Account(cloud, Store(folder, cloud.name), dict(config)) for cloud, config in ACCOUNTS
        }

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        return self.accounts[args.token.partition(":")[0]].ask(args.token, args.args), []

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        account = self.accounts.get(args.typ.partition(":")[0])
        if account is None or not args.custom:
            return f"{args.name}-id", dict(args.inputs)
        inputs = {key: whole(rpc.unwrap_rpc_secret(value)) for key, value in args.inputs.items()}
        inputs, wrong = account.check(args.typ, args.name, inputs, {}, b"1234")
        assert not wrong, wrong
        record = account.create(args.typ, args.name, f"urn:{args.typ}:{args.name}", inputs)
        return record.id, record.outputs

    def machines(self) -> dict[str, Guarded]:
        """Every machine of every cloud, with the rules before it."""
        found = [
            machine
            for account in self.accounts.values()
            for machine in guarded(account.cloud, account.store.read())
        ]
        return {machine.name: machine for machine in found}

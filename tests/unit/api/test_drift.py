"""A look for drift is counted, whatever it finds."""

import json

import pytest

from tests.support.small_site import DOCUMENT
from xds_agent.api.app import create_app
from xds_agent.peers.forwarding import answered
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.change import Conflict


class Parted:
    """A pipeline that answers as for an inventory from which a host is gone."""

    live = None

    async def apply(self, change):
        raise Conflict("host edge2 would be removed", "if it is meant, say so: -e allow_removal=edge2")


@pytest.mark.parametrize(("drift", "counted"), [(True, [1]), (False, [])])
async def test_what_needs_a_word_before_it_goes_has_parted_too(drift, counted):
    seen = []
    app = create_app(Parted(), name="control1", drifted=seen.append)
    body = json.dumps({"document": DOCUMENT, "dry_run": True, "drift": drift}).encode()
    said = await answered(app, pb.ForwardRequest(method="POST", path="/v1/revisions", body=body))
    assert said.status == 409
    assert seen == counted

"""Control of this version serves agents of the version before: what they speak only ever grows.

The golden file lists every field that an agent of 0.1.0 knows. A field of it that goes, or changes its number
or type, would be read wrongly by one of the two; a new one is passed over by whoever does not know it.
"""

import json
from pathlib import Path

from xds_agent.proto import datapath_pb2
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.features import FEATURES, Views
from xds_agent.snapshot.resource import DATAPATH_SERVICE, Resource, Snapshot

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "wire" / "0.1.0.json"
# Between control and its agents; those between control hosts are of one version at a time but for an upgrade.
MESSAGES = ("Revision", "TypeDigest", "Part", "Hello", "Nic", "Heartbeat", "ReportRequest", "ReportResponse",
            "Question", "Answer", "HeldResource", "RenewRequest", "RenewResponse",
            "LeaderSaid", "Publication", "PublishedView", "FollowerSaid", "NodeOutcome", "NodeReport",
            "ForwardRequest", "ForwardResponse")  # fmt: skip

# Values of enums that an agent of 0.1.0 knows. A field that it does not know it passes over; by a value that
# it does not know it ends.
KNOWN_VALUES = {
    "protocol": {"PROTOCOL_UNSPECIFIED", "TCP", "UDP", "ICMP"},
    "forward": {"FORWARD_UNSPECIFIED", "NAT", "DSR", "GUE", "ECHO"},
}


def fields():
    found = {}
    for name in MESSAGES:
        for field in getattr(pb, name).DESCRIPTOR.fields:
            kind = field.message_type.full_name if field.message_type is not None else str(field.type)
            found[f"{name}.{field.name}"] = [field.number, kind]
    return found


def test_no_field_of_the_version_before_goes_or_changes():
    now = fields()
    before = json.loads(GOLDEN.read_text())
    assert {name: now.get(name) for name in before} == before


def test_what_an_older_agent_does_not_know_is_passed_over():
    """A question to an agent that knows none is to it what it always was: report at once."""
    asked = pb.ReportResponse(heartbeat_s=10, question=pb.Question(id=1, held=True)).SerializeToString()
    older = pb.ReportResponse(heartbeat_s=10).SerializeToString()
    assert asked.startswith(older)
    again = pb.Heartbeat.FromString(pb.Heartbeat(active_revision="r1").SerializeToString() + b"\xfa\x3f\x01x")
    assert again.active_revision == "r1"


def test_a_value_that_an_older_agent_does_not_know_is_not_sent_to_it():
    descriptor = datapath_pb2.Service.DESCRIPTOR
    enums = {field.name: field.enum_type.values for field in descriptor.fields if field.enum_type is not None}
    assert enums.keys() == KNOWN_VALUES.keys()
    for field, values in enums.items():
        for value in values:
            service = datapath_pb2.Service(name="shop", **{field: value.number})
            snapshot = Snapshot.of([Resource.of(DATAPATH_SERVICE, "shop", service)])
            sent = Views().of(snapshot, ()).of_type(DATAPATH_SERVICE)
            assert (value.name in KNOWN_VALUES[field]) == ("shop" in sent), value.name
            assert Views().of(snapshot, FEATURES) is snapshot

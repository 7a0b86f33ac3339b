"""Control of this version serves agents of the version before: what they speak only ever grows.

The golden file lists every field that an agent of 0.1.0 knows. A field of it that goes, or changes its number
or type, would be read wrongly by one of the two; a new one is passed over by whoever does not know it.
"""

import json
from pathlib import Path

from xds_agent.proto import marchproxy_pb2 as pb

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "wire" / "0.1.0.json"
# Between control and its agents; those between control hosts are of one version at a time but for an upgrade.
MESSAGES = ("Revision", "TypeDigest", "Part", "Hello", "Nic", "Heartbeat", "ReportRequest", "ReportResponse",
            "Question", "Answer", "HeldResource", "RenewRequest", "RenewResponse",
            "LeaderSaid", "Publication", "PublishedView", "FollowerSaid", "NodeOutcome", "NodeReport",
            "ForwardRequest", "ForwardResponse")  # fmt: skip


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

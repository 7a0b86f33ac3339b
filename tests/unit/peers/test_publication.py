"""What the leader publishes arrives as it is: same revisions, same sharing, each resource sent once."""

import random

from envoy.config.cluster.v3 import cluster_pb2

from xds_agent.peers.outcomes import heard, told
from xds_agent.peers.publication import Decoder, Encoder
from xds_agent.protocol.outcomes import Acknowledged, Connected, Disconnected, Orphan, Refused
from xds_agent.snapshot.resource import CLUSTER, Resource, Snapshot


def cluster(number, version):
    return Resource.of(
        CLUSTER, f"c{number}", cluster_pb2.Cluster(name=f"c{number}", alt_stat_name=str(version))
    )


def revisions(snapshots):
    return {name: snapshot.revision for name, snapshot in snapshots.items()}


def test_any_sequence_of_publications_arrives_and_memory_stays_bounded():
    rng = random.Random(7)
    encoder, decoder = Encoder(), Decoder()
    versions = dict.fromkeys(range(40), 0)
    for step in range(200):
        for number in rng.sample(sorted(versions), 15):
            versions[number] = step
        view = Snapshot.of(cluster(number, version) for number, version in versions.items())
        small = Snapshot.of(cluster(number, versions[number]) for number in (1, 2))
        published = {"edge1": view, "edge2": view, "edge3": small}
        said = encoder.encode(published, step)
        came = decoder.decode(said)
        assert revisions(came) == revisions(published)
        assert came["edge1"] is came["edge2"]
        assert came["edge1"].resources == view.resources
        assert len(encoder._places) <= 2 * 42 + 1000 + 42


def test_what_was_sent_is_not_sent_again():
    encoder, decoder = Encoder(), Decoder()
    before = Snapshot.of([cluster(1, 0), cluster(2, 0)])
    after = Snapshot.of([cluster(1, 0), cluster(2, 1)])
    decoder.decode(encoder.encode({"edge1": before}, 1))
    said = encoder.encode({"edge1": after}, 2)
    assert [Resource.decode(raw).name for raw in said.resources] == ["c2"]
    assert decoder.decode(said)["edge1"].revision == after.revision
    assert not encoder.encode({"edge1": before}, 3).resources


def test_every_answer_of_a_node_is_told_as_it_is_and_strangers_are_nobodys_business():
    outcomes = [
        Disconnected("edge1", "gone"),
        Acknowledged("edge1", "r1"),
        Refused("edge1", "r2", CLUSTER, ("shop", "pay"), "ring too big"),
    ]
    assert [heard(told(one)) for one in outcomes] == outcomes
    assert heard(told(Connected("edge1", 7))) == Connected("edge1", 0)
    assert told(Orphan("edge9", "not held")) is None

"""Steering at work, on the pipeline: what it remembers of what nodes say."""

from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.steerer import Steerer
from xds_agent.steering.site import scene_of
from xds_agent.steering.world import Region

AWS, GCP = Region("aws", "us-east-1"), Region("gcp", "us-central1")


async def test_a_node_cannot_fill_controls_memory_with_names(pipeline, site_of):
    def steered(document):
        document["edge"]["services"][0]["steering"] = {"order": ["aws", "gcp"]}
        document["edge"]["services"][0]["endpoints"] = [
            {"address": f"10.{n}.0.1", "port": 80, **place._asdict()} for n, place in enumerate((AWS, GCP), 1)
        ]

    steerer = Steerer(pipeline)
    steerer.scene = scene_of(site_of(steered))
    told = [pb.ServiceLoad(service=f"none{n}", cloud="aws", region="us-east-1") for n in range(100)]
    told += [pb.ServiceLoad(service="shop", cloud=f"cloud{n}") for n in range(100)]
    told.append(pb.ServiceLoad(service="shop", cloud="aws", region="us-east-1", requests=7))
    steerer.heard("edge1", pb.Heartbeat(loads=told))
    assert list(steerer.loads.flows) == [("edge1", "shop", AWS)]

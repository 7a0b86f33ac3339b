"""What Envoy holds against what control believes: every difference has its sentence, health is none."""

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from xds_agent.node.questions import by_listener, held_resources
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.live_diff import differences
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, Resource, Snapshot


def cluster(name):
    return Resource.of(CLUSTER, name, cluster_pb2.Cluster(name=name))


def endpoints(name, *ports):
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add(priority=1)
    locality.locality.region = "aws/us-east-1"
    for port in ports:
        entry = locality.lb_endpoints.add()
        entry.endpoint.address.socket_address.address = "10.0.0.9"
        entry.endpoint.address.socket_address.port_value = port
        entry.load_balancing_weight.value = 2
    return Resource.of(ENDPOINTS, name, message)


def in_envoy(resource, **more):
    return pb.HeldResource(type_url=resource.type_url, name=resource.name, version=resource.version, **more)


def held_endpoints(name, *words):
    return pb.HeldResource(type_url=ENDPOINTS, name=name, endpoints=words)


def texts(believed, *held):
    return [(one.name, one.text) for one in differences(Snapshot.of(believed), held)]


def test_equal_sets_differ_in_nothing_and_health_is_envoys_own_finding():
    shop, its = cluster("shop"), endpoints("shop", 80)
    unhealthy = held_endpoints("shop", "1 aws/us-east-1/ 10.0.0.9:80 2 UNHEALTHY")
    assert texts([shop, its], in_envoy(shop), unhealthy) == []


def test_missing_foreign_stale_warming_and_refused_are_told():
    shop, old = cluster("shop"), cluster("old")
    assert texts([shop]) == [("shop", "Envoy does not have it")]
    assert texts([], in_envoy(old)) == [("old", "Envoy has it, control wants it gone")]
    stale = pb.HeldResource(type_url=CLUSTER, name="shop", version="before")
    assert texts([shop], stale) == [("shop", f"Envoy has version before, control believes {shop.version}")]
    assert texts([shop], in_envoy(shop, state="warming")) == [("shop", "still warming in Envoy")]
    assert texts([shop], in_envoy(shop, refused="bad ring")) == [
        ("shop", "Envoy refused an update of it: bad ring")
    ]


def test_endpoints_are_compared_by_what_they_are():
    held = held_endpoints("shop", "1 aws/us-east-1/ 10.0.0.9:80 2 HEALTHY", "0 / 10.0.0.8:80 1 HEALTHY")
    found = texts([endpoints("shop", 80, 81)], held)
    assert found == [
        ("shop", "Envoy lacks endpoint 10.0.0.9:81 (priority 1, aws/us-east-1, weight 2)"),
        ("shop", "Envoy has endpoint 10.0.0.8:80 (priority 0, no place, weight 1), control wants it gone"),
    ]


def test_a_config_dump_is_read_with_what_warms_and_what_was_refused():
    dump = {
        "configs": [
            {"dynamic_active_clusters": [{"version_info": "v1", "cluster": {"name": "shop"}}]},
            {
                "dynamic_listeners": [
                    {
                        "name": "https",
                        "active_state": {"version_info": "v2"},
                        "error_state": {"details": "bad port"},
                    }
                ]
            },
            {"static_listeners": [{"listener": {"name": "admin"}}]},
        ]
    }
    found = [(one.name, one.version, one.refused) for one in held_resources(dump)]
    assert found == [("shop", "v1", ""), ("https", "v2", "bad port")]


def test_endpoints_that_a_cluster_finds_by_dns_are_its_own():
    message = cluster_pb2.Cluster(name="named", type=cluster_pb2.Cluster.STRICT_DNS)
    named = Resource.of(CLUSTER, "named", message)
    found = held_endpoints("named", "0 / 10.0.0.1:80 1 HEALTHY")
    assert texts([named], in_envoy(named), found) == []
    given = Resource.of(CLUSTER, "named", cluster_pb2.Cluster(name="named", type=cluster_pb2.Cluster.EDS))
    assert texts([given], in_envoy(given), found) == [("named", "Envoy has it, control wants it gone")]


def test_open_connections_are_counted_once_per_listener_and_those_of_the_admin_not_at_all():
    gauges = {
        "listener.https.downstream_cx_active": 40,
        "listener.https.worker_0.downstream_cx_active": 25,
        "listener.tcp-7000.downstream_cx_active": 2,
        "listener.admin.downstream_cx_active": 1,
        "listener.admin.main_thread.downstream_cx_active": 1,
    }
    assert by_listener(gauges) == {"https": 40, "tcp-7000": 2}

"""The inventory plugin, the site document and the model together, through a real Ansible inventory."""

from __future__ import annotations

import json

import pytest

from tests.integration.inventory.planted import SHOP
from tests.support.site_inventory import SiteInventory


def test_files_in_any_layout_become_one_edge(inventory: SiteInventory) -> None:
    inventory.write(
        {
            "edge/shop.yml": SHOP,
            "edge/teams/chat/deep/services.yaml": """
                domains: [{name: chat.example.com, certificate: shop}]
                services: [{name: chat, protocol: websocket, domains: [chat.example.com],
                            endpoints: [{address: 10.9.9.9, port: 80}]}]
                """,
            "edge/more.json": json.dumps({"clouds": {"aws": {"egress_usd_per_gb": 0.09}}}),
            "edge/README.md": "not YAML: [",
            "edge/.hidden.yml": "nor: this: [",
        }
    )
    site = inventory.load()
    assert [service.name for service in site.edge.services] == ["chat", "shop"]
    assert [domain.name for domain in site.edge.domains] == ["chat.example.com", "shop.example.com"]
    assert site.edge.clouds["aws"].egress_usd_per_gb == 0.09
    endpoints = site.endpoints_of(site.edge.service_by_name["shop"])
    assert [(e.host, e.address, e.port, e.cloud, e.zone) for e in endpoints] == [
        ("backend-aws1", "10.0.1.31", 8080, "aws", "us-east-1a"),
        ("backend-gcp1", "10.0.2.31", 8080, "gcp", "us-central1-a"),
    ]


def test_everything_in_one_file(inventory: SiteInventory) -> None:
    inventory.write({"edge.yml": "plugin: marchproxy.edge.edge\n" + SHOP})
    assert [service.name for service in inventory.load().edge.services] == ["shop"]


def test_a_wrong_port_names_file_and_line(inventory: SiteInventory) -> None:
    inventory.write({"edge/services/shop.yml": SHOP.replace("8080", "99999")})
    assert inventory.report() == [
        "services[shop].endpoints[0].port: 99999 is not a port (1 to 65535); edge/services/shop.yml:7"
    ]


def test_a_duplicate_names_both_places(inventory: SiteInventory) -> None:
    inventory.write({"edge/a.yml": SHOP, "edge/b.yml": "\n\nservices:\n  - name: shop\n    endpoints: []\n"})
    assert inventory.report() == [
        "services[shop]: 'shop' is already at edge/a.yml:4; rename or remove one; to change it from another "
        "file, write it below edge/overlays/; edge/b.yml:2"
    ]


def test_a_duplicate_key_of_a_mapping_names_both_places(inventory: SiteInventory) -> None:
    inventory.write(
        {"edge/a.yml": "ports: {https: 8443}\n", "edge/b.yml": "ports:\n  grpc: 8081\n  https: 9443\n"}
    )
    assert inventory.report() == [
        "ports.https: is already at edge/a.yml:1; remove one; to change it from another file, write it below "
        "edge/overlays/; edge/b.yml:3"
    ]


def test_one_key_twice_in_a_file_is_an_error_not_a_loss(inventory: SiteInventory) -> None:
    inventory.write({"edge/a.yml": SHOP + "services: []\n"})
    [problem] = inventory.problems()
    assert problem.message == "found duplicate mapping key 'services' (the first would be lost)"
    assert problem.origin == "edge/a.yml:8:1"


def test_overlays_change_items_by_name_and_come_last(inventory: SiteInventory) -> None:
    inventory.write(
        {
            "edge/shop.yml": SHOP + "ports: {https: 8443}\n",
            "edge/overlays/10-winter.yml": """
                services:
                  - name: shop
                    timeout: 30s
                    health: {path: /ready}
                ports: {https: 9443}
                """,
            "edge/overlays/20-later.yml": """
                services:
                  - name: shop
                    timeout: null
                    health: {interval: 2s}
                """,
        }
    )
    site = inventory.load()
    shop = site.edge.service_by_name["shop"]
    assert (shop.timeout.total_seconds(), site.edge.ports.https) == (15, 9443)
    assert shop.health is not None
    assert (shop.health.path, shop.health.interval.total_seconds()) == ("/ready", 2)
    assert shop.domains == ("shop.example.com",)
    assert site.origin("services[shop].health.path") == "edge/overlays/10-winter.yml:4:5"
    assert site.origin("services[shop].domains") == "edge/shop.yml:5:5"


def test_an_overlay_removes(inventory: SiteInventory) -> None:
    inventory.write(
        {
            "edge/shop.yml": SHOP,
            "edge/overlays/x.yml": """
                services: [{name: shop, state: absent}]
                domains: [{name: shop.example.com, state: absent}, {name: shop.example.co, state: absent}]
                certificates: [{name: shop, state: gone}, {certificate: x}]
                """,
        }
    )
    assert inventory.report() == [
        "domains[shop.example.co]: there is nothing to remove; edge/overlays/x.yml:2",
        "certificates: an overlay item has no name; an overlay finds what it changes by name: add it; "
        "edge/overlays/x.yml:3",
        "certificates[shop].state: 'gone' is not a state; use present or absent; edge/overlays/x.yml:3",
    ]


def test_an_unknown_section_suggests_the_nearest(inventory: SiteInventory) -> None:
    inventory.write({"edge/a.yml": "# teams\nservises: []\n"})
    assert inventory.report() == ["servises: unknown key 'servises'; did you mean 'services'?; edge/a.yml:2"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "- name: shop\n",
            "the file holds a list, not a mapping; begin it with a key such as services: [...]; edge/a.yml:1",
        ),
        (
            "shop\n",
            "the file holds text, not a mapping; begin it with a key such as services: [...]; edge/a.yml:1",
        ),
        (
            "services: {shop: {}}\n",
            "services: is a mapping, not a list; begin each item with '- name: ...'; edge/a.yml:1",
        ),
        ("ports: [80]\n", "ports: is a list, not a mapping; write keys below it; edge/a.yml:1"),
        (
            'services: "{{ all_services }}"\n',
            "services: a whole list cannot be a template; write the list, with templates for its values; "
            "edge/a.yml:1",
        ),
        (
            "services:\n  - name: a\n   endpoints: []\n",
            "YAML syntax error: did not find expected '-' indicator; see this line and the one before "
            "it; edge/a.yml:3",
        ),
        (
            "services:\n\t- name: a\n",
            "YAML syntax error: found character that cannot start any token; use spaces, not tabs; "
            "edge/a.yml:2",
        ),
        (
            "description: x\nservices:\n  - timeout: {{ t }}\n",
            "YAML syntax error: found unhashable key; put the template in quotes; edge/a.yml:3",
        ),
        (
            b"services:\n  - name: caf\xe9\n",
            "is not UTF-8: byte 0xe9; save it as UTF-8 (iconv -f latin1 -t utf-8, if it was written that "
            "way); edge/a.yml:2",
        ),
        (
            "services: [{name: a}]\n---\nservices: []\n",
            "YAML syntax error: but found another document; write one document per file; edge/a.yml:2",
        ),
    ],
)
def test_a_file_that_cannot_be_used(inventory: SiteInventory, content: str | bytes, expected: str) -> None:
    inventory.write({"edge/a.yml": content})
    assert inventory.report() == [expected]


def test_a_mistake_in_edge_yml_itself(inventory: SiteInventory) -> None:
    inventory.write({"edge.yml": "plugin: marchproxy.edge.edge\nservices: [\n"})
    [line] = inventory.report()
    assert line.startswith("YAML syntax error: ")
    assert line.endswith("edge.yml:3")


def test_keys_that_are_no_text(inventory: SiteInventory) -> None:
    inventory.write({"edge/a.yml": SHOP + "    7: x\n    on: y\n"})
    assert [line.partition(";")[0] for line in inventory.report()] == [
        "services[shop].7: unknown key '7'",
        "services[shop].True: unknown key 'True'",
    ]


def test_an_edge_yml_of_another_plugin_is_left_alone(inventory: SiteInventory) -> None:
    inventory.write({"edge.yml": "plugin: ansible.builtin.constructed\nstrict: false\n"})
    assert inventory.document()["edge"] is None


def test_an_unreadable_file_does_not_cause_a_flood(inventory: SiteInventory) -> None:
    """What seems to be missing may stand in the file that could not be read; form is checked all the same."""
    inventory.write({"edge/domains.yml": "domains: [\n", "edge/shop.yml": SHOP.split("domains:", 1)[0]})
    inventory.write(
        {"edge/services.yml": "services: [{name: shop, domains: [shop.example.com], timeout: 5}]\n"}
    )
    report = inventory.report()
    assert len(report) == 2
    assert "edge/domains.yml:2" in report[0]
    assert report[1].startswith("services[shop].timeout: 5 is not a duration")


def test_templates_are_rendered_and_a_failing_one_is_named(inventory: SiteInventory) -> None:
    inventory.write(
        {
            "group_vars/control.yml": "shop_port: 8080\nslow: 30\n",
            "edge/shop.yml": SHOP.replace("8080", '"{{ shop_port }}"')
            + '    timeout: "{{ slow }}s"\n    description: "{{ nowhere }}"\n    connect_timeout: "{{ 1 '
            '/ 0 }}"\n',
        }
    )
    problems = inventory.problems()
    assert [(p.path, p.origin) for p in problems] == [
        ("services[shop].description", "edge/shop.yml:9:5"),
        ("services[shop].connect_timeout", "edge/shop.yml:10:5"),
    ]
    assert "'nowhere' is undefined" in problems[0].message
    inventory.write(
        {"edge/overlays/x.yml": "services: [{name: shop, description: null, connect_timeout: null}]\n"}
    )
    shop = inventory.load().edge.service_by_name["shop"]
    assert (shop.endpoints[0].port, shop.timeout.total_seconds()) == (8080, 30)


def test_a_failing_template_of_a_required_key_is_one_mistake(inventory: SiteInventory) -> None:
    inventory.write(
        {
            "edge/a.yml": "authorities:\n  - name: a\n    certificate: \"{{ lookup('file', "
            "'/nowhere/ca.crt') }}\"\n"
        }
    )
    assert inventory.report() == [
        "authorities[a].certificate: the template fails: The lookup plugin 'file' failed: Unable to "
        "access the file "
        "'/nowhere/ca.crt': File not found; check it and the variables it uses; edge/a.yml:3"
    ]


def test_a_template_may_give_a_whole_list(inventory: SiteInventory) -> None:
    inventory.write(
        {
            "group_vars/control.yml": "shop_backends: [{address: 10.1.1.1, port: 80}, {address: "
            "10.1.1.2, port: 81}]\n",
            "edge/shop.yml": """
                services:
                  - name: shop
                    endpoints: "{{ shop_backends }}"
                """,
        }
    )
    assert [e.port for e in inventory.load().edge.services[0].endpoints] == [80, 81]


def test_all_mistakes_of_all_files_at_once(inventory: SiteInventory) -> None:
    inventory.write(
        {
            "edge/a.yml": """
                services:
                  - name: shop
                    domains: [shop.example.com]
                    healt: {path: /}
                    timeout: 5
                    endpoints: [{group: backend, port: 80}]
                  - name: echo
                    protocol: tcp
                    endpoints: [{address: 10.0.0.1, port: 7}]
                """,
            "edge/b.yml": """
                domains: [{name: shop.example.com, certificate: shop}]
                routes:
                  - domains: [shop.example.com]
                    prefix: /api
                    split: {shop: 95, shop-v2: 4}
                  - domains: [shop.example.com]
                    regex: /(?=x)
                    service: echo
                """,
            "edge/overlays/c.yml": "services: [{name: shopp, state: absent}]\n",
        }
    )
    assert inventory.report() == [
        "services[shop].healt: unknown key 'healt'; did you mean 'health'?; edge/a.yml:4",
        "services[shop].timeout: 5 is not a duration: it has no unit; write 5s for seconds or 5ms; "
        "edge/a.yml:5",
        "services[shop].endpoints[0].group: there is no group with hosts 'backend'; did you mean "
        "'backends'?; "
        "edge/a.yml:6",
        "services[echo].listen: is missing: a tcp service needs it; add listen: {address: edge, port: ...}; "
        "edge/a.yml:7",
        "domains[shop.example.com].certificate: there is no certificate 'shop'; add it under certificates; "
        "edge/b.yml:1",
        "routes[0].split: adds up to 99 percent; make the shares add up to 100; edge/b.yml:5",
        "routes[0].split.shop-v2: there is no service 'shop-v2'; did you mean 'shop'?; edge/b.yml:5",
        "routes[1].regex: '/(?=x)' is not an expression Envoy takes: it holds lookaround, which RE2 "
        "(Envoy's engine) "
        "cannot take; write it in RE2 syntax; edge/b.yml:7",
        "routes[1].service: service echo is tcp; a route leads to http, grpc or websocket services; "
        "reach it on its own port; edge/b.yml:8",
        "services[shopp]: there is nothing to remove; did you mean 'shop'?; edge/overlays/c.yml:1",
    ]


def test_an_empty_inventory_says_what_to_write(inventory: SiteInventory) -> None:
    (inventory.folder / "edge.yml").unlink()
    assert inventory.report() == [
        "the inventory says nothing about the edge; write edge.yml with `plugin: marchproxy.edge.edge` "
        "beside the "
        "hosts, and services below edge/"
    ]


def test_an_edge_without_anything_is_a_site_without_services(inventory: SiteInventory) -> None:
    inventory.write({"edge/empty.yml": "# nothing yet\n", "edge/null.yml": "services:\n"})
    assert inventory.load().edge.services == ()


def test_ten_megabytes_of_edge_and_one_mistake(inventory: SiteInventory) -> None:
    text = "x" * 9_000
    for file in range(12):
        services = "".join(
            f"  - name: s{file}-{n}\n    description: {text}\n    endpoints: "
            f"[{{group: backends, port: 80}}]\n"
            for n in range(100)
        )
        inventory.write({f"edge/{file}.yml": "services:\n" + services})
    assert sum(path.stat().st_size for path in (inventory.folder / "edge").iterdir()) > 10_000_000
    assert len(inventory.load().edge.services) == 1200
    last = inventory.folder / "edge" / "11.yml"
    last.write_text(
        last.read_text().replace("port: 80}]\n  - name: s11-50\n", "port: 0}]\n  - name: s11-50\n")
    )
    assert inventory.report() == [
        "services[s11-49].endpoints[0].port: 0 is not a port (1 to 65535); edge/11.yml:151"
    ]


def test_no_control_host(inventory: SiteInventory) -> None:
    inventory.write({"hosts.yml": "all: {hosts: {edge1: {ansible_host: 10.0.0.1}}}\n"})
    assert inventory.report() == [
        "no host is in group control; put the host of the control plane into group control"
    ]


def test_no_inventory_at_all(inventory: SiteInventory) -> None:
    inventory.folder = inventory.folder / "nowhere"
    assert "there is no inventory at" in inventory.report()[0]


def test_all_addresses_of_a_host_are_facts(inventory: SiteInventory) -> None:
    ours = {"private_address": "10.9.0.1", "interconnect_endpoint": "203.0.113.9"}
    inventory.write({"host_vars/edge1.yml": "".join(f"{name}: {value}\n" for name, value in ours.items())})
    document = inventory.document()
    assert document["hosts"]["edge1"].items() >= ours.items()
    assert document["hosts"]["control1"].keys().isdisjoint(ours)


def test_host_facts_have_origins_too(inventory: SiteInventory) -> None:
    inventory.write(
        {
            "hosts.yml": """
                control:
                  hosts: {control1: {ansible_host: 10.0.0.10}}
                ingress:
                  hosts:
                    edge1:
                      ansible_host: not an address
                      edge_tenants: [retial]
                    edge2.example.com:
                """,
            "edge/t.yml": "tenants: [{name: retail}]\n",
        }
    )
    assert inventory.report() == [
        "hosts.edge1.address: 'not an address' is not an address; write an IPv4 or IPv6 address (no port, no "
        "brackets) or a DNS name; hosts.yml:6",
        "hosts.edge1.tenants[0]: there is no tenant 'retial'; did you mean 'retail'?; hosts.yml:7",
    ]
    document = inventory.document()
    assert document["hosts"]["edge2.example.com"] == {"groups": ["ingress"], "address": "edge2.example.com"}

"""The fleet module where no control answers: check mode on a fresh site, --limit, bad input."""


def test_check_mode_says_what_would_be_created(small_site):
    played = small_site.play("--check", "--diff")
    assert played.code == 0, played
    assert "edge1, edge2:\n" in played.output
    assert "  service shop (http) is created at shop.example.com with 2 endpoints" in played.output
    assert "2 services, 2 proxies, 0 connections closed" in played.output
    assert '"services"' not in played.output


def test_without_check_mode_it_fails_with_the_next_step(small_site):
    played = small_site.play()
    assert played.code != 0
    assert f"{small_site.socket} is not there: xds-agent serve does not run on this host yet" in played.output
    assert "Traceback" not in played.output


def test_a_control_host_that_cannot_be_reached_is_no_error_in_check_mode(small_site):
    small_site.edit("inventory/hosts.yml", "ansible_connection: local", "ansible_connection: ssh")
    small_site.edit(
        "inventory/hosts.yml", "ansible_host: 10.0.0.1", "ansible_host: 127.0.0.1\n          ansible_port: 1"
    )
    played = small_site.play("--check", "--diff")
    assert played.code == 0, played
    assert "2 services, 2 proxies, 0 connections closed" in played.output


def test_a_limit_without_control_fails_with_a_sentence(small_site):
    small_site.write(
        "first.yml",
        "- name: First\n  hosts: all\n  gather_facts: false\n  tasks:\n"
        "    - name: Validate\n      marchproxy.edge.validate_edge:\n      run_once: true\n",
    )
    played = small_site.play("--limit", "edge1", playbook="first.yml")
    assert played.code != 0
    assert "--limit edge1 leaves out control (control1)" in played.output
    assert small_site.play("--limit", "edge1,control", playbook="first.yml").code == 0


def test_on_another_host_it_says_where_to_run(small_site):
    small_site.edit("play.yml", "hosts: control", "hosts: ingress")
    played = small_site.play()
    assert played.code != 0
    assert "fleet runs on a control host, this task runs on edge1" in played.output


def test_all_problems_at_once_with_file_and_line(small_site):
    small_site.edit("inventory/edge/shop.yml", "port: 8090", "port: 99999")
    small_site.edit("inventory/edge/routes.yml", "shop-v2: 5", "shop-v3: 5")
    played = small_site.play("--check")
    assert played.code != 0
    assert "2 problems in the inventory:" in played.output
    assert "services[shop-v2].endpoints[0].port" in played.output
    assert "shop.yml:11" in played.output
    assert "shop-v3" in played.output
    assert "routes.yml:2" in played.output


def test_a_secret_shows_at_no_verbosity(small_site):
    planted = "planted-4f81c0de"
    small_site.edit(
        "inventory/edge/shop.yml",
        "    domains: [shop.example.com]\n",
        f"    domains: [shop.example.com]\n    auth: {{type: token, tokens: {{partner: '{planted}'}}}}\n",
    )
    for arguments in (("--check", "--diff", "-vvv"), ("-vvvv",)):
        played = small_site.play(*arguments)
        assert planted not in played.output

"""The alert rules as Prometheus itself reads them; each has its runbook and metrics that really exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "alerts" / "marchproxy.yml"
ALERTS = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool: Debian's package prometheus (script/test)"
)
def test_promtool_agrees_with_every_rule_and_its_test(tmp_path):
    for file in (RULES, Path(__file__).with_name("marchproxy_test.yml")):
        shutil.copy(file, tmp_path)
    for command in (["check", "rules", RULES.name], ["test", "rules", "marchproxy_test.yml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested():
    tested = (Path(__file__).with_name("marchproxy_test.yml")).read_text()
    assert len(ALERTS) == 5
    assert all(f"alertname: {rule['alert']}\n" in tested for rule in ALERTS)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_runbook_that_names_it(rule):
    runbook = ROOT / rule["annotations"]["runbook"]
    assert rule["alert"] in runbook.read_text()


def test_every_metric_of_a_rule_is_one_of_ours():
    known = "".join(
        path.read_text() for path in (ROOT / "xds_agent/api/metrics.py", ROOT / "xds_agent/node/figures.py")
    )
    used = {name for rule in ALERTS for name in re.findall(r"marchproxy_\w+", rule["expr"])}
    assert [name for name in sorted(used) if f'"{name.removesuffix("_total")}"' not in known] == []

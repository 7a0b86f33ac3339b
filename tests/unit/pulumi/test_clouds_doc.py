"""docs/clouds.md names what an account must have before the first `up`, and its commands run to their end."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

from edge_iac.site import parse_site
from edge_iac.site.places import regions_of

ROOT = Path(__file__).parents[3]
APIS = {
    "compute": "compute",
    "dns": "dns",
    "projects": "cloudresourcemanager",
    "serviceaccount": "iam",
    "storage": "storage",
}
"""Module of the SDK -> the API that its resources are made through."""
OF_HOSTS = {"secretmanager"}
"""Read by hosts themselves."""


def test_every_api_of_google_that_the_programs_call_is_named() -> None:
    sources = "".join(one.read_text() for one in (ROOT / "pulumi/edge_iac/gcp").glob("*.py"))
    modules = set(re.findall(r"\bgcp\.([a-z]+)\.[A-Z]", sources))
    assert modules == APIS.keys()
    [line] = re.findall(r"gcloud services enable ([^`]+)`", (ROOT / "docs/clouds.md").read_text())
    named = {one.removesuffix(".googleapis.com") for one in line.split()}
    assert named == {*APIS.values(), *OF_HOSTS}


def test_the_trial_on_simulated_clouds_lets_every_region_go_before_it_destroys(tmp_path: Path) -> None:
    """Else the engine refuses to delete addresses, which are protected."""
    page = (ROOT / "docs/simulated-clouds.md").read_text()
    commands = re.findall(r"```sh\n(.*?)```", page, re.S)[0]
    [edit] = re.findall(r"^(sed .*?lab\.yaml) ", commands, re.M)
    up, destroy = commands.index("up --yes", commands.index(edit)), commands.index("destroy --yes")
    assert up < destroy
    file = tmp_path / ".lab/try/lab.yaml"
    file.parent.mkdir(parents=True)
    file.write_text((ROOT / "pulumi/sites/lab.yaml").read_text())
    subprocess.run(["bash", "-ec", edit], cwd=tmp_path, check=True)
    site = parse_site(file.read_text(), shown="lab.yaml", stem="lab")
    assert [said.leaving for _, _, said, _ in regions_of(site)] == [True] * 3


def test_no_page_leaves_an_authoritys_key_where_git_sees_it() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for page in ("docs/clouds.md", "docs/simulated-clouds.md"):
        made = re.findall(r"ssh-keygen [^\n]*-f (\S+)", (ROOT / page).read_text())
        assert made
        for key in (name for one in made for name in (one, f"{one}.pub")):
            assert any(fnmatch(key, one) or key.startswith(one) for one in ignored), key

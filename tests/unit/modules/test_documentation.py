"""Every module of ours says what check and diff mode do, and its documentation parses."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(path for path in (ROOT / "modules").glob("*.py"))


def block(path: Path, name: str):
    found = path.read_text().split(f'{name} = r"""', 1)
    assert len(found) == 2, f"{path.name} has no {name}"
    return yaml.safe_load(found[1].split('"""', 1)[0])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_documented(path):
    documentation = block(path, "DOCUMENTATION")
    assert documentation["module"] == path.stem
    assert {"check_mode", "diff_mode"} <= documentation["attributes"].keys()
    assert documentation["attributes"]["check_mode"]["support"] == "full"
    for example in block(path, "EXAMPLES"):
        assert isinstance(example, dict)
    assert isinstance(block(path, "RETURN"), dict)


def test_the_options_of_fleet_are_those_it_takes():
    source = (ROOT / "modules/fleet.py").read_text()
    taken = yaml.safe_load(source.split("SPEC = ", 1)[1].split("\n}\n", 1)[0] + "\n}")
    options = block(ROOT / "modules/fleet.py", "DOCUMENTATION")["options"]
    assert {name: spec["type"] for name, spec in taken.items()} == {
        name: option["type"] for name, option in options.items()
    }

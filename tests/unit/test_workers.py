"""What pytest's two workers may do at the same time."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import one_after_the_other

LAB = Path(__file__).resolve().parents[1] / "lab"


def test_files_that_use_the_lab_of_all_tests_go_to_one_worker() -> None:
    users = [path.name for path in LAB.glob("test_*.py") if "lab: Lab" in path.read_text()]
    assert len(users) > 1
    assert len({one_after_the_other(f"tests/lab/{name}::test_a[b::c]") for name in users}) == 1


def test_tests_of_one_file_go_to_one_worker_and_files_may_part() -> None:
    first, second, other = (
        "tests/x/test_a.py::test_1",
        "tests/x/test_a.py::A::test_2",
        "tests/x/test_b.py::test_1",
    )
    assert one_after_the_other(first) == one_after_the_other(second) != one_after_the_other(other)

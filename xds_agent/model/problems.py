"""What is wrong with an inventory, in words a person can act on."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (or a note about one thing), and where it is written."""

    path: str
    """Path inside the inventory: 'services[shop].endpoints[0].port'."""
    message: str
    """What is wrong: '99999 is not a port (1 to 65535)'."""
    fix: str = ""
    """What to do: 'use a port from 1 to 65535'. Empty when the message says it."""
    origin: str | None = None
    """File, line and column: 'inventories/lab/edge/services/shop.yml:41:7'."""

    def render(self) -> str:
        """One line for people: path, message, fix, file and line."""
        text = f"{self.path}: {self.message}" if self.path else self.message
        if self.fix:
            text += f"; {self.fix}"
        if self.origin:
            text += f"; {place(self.origin)}"
        return text

    def as_dict(self) -> dict[str, str | None]:
        """For JSON: the fields, and `text` as shown to people."""
        return {**asdict(self), "text": self.render()}


class ModelError(Exception):
    """An inventory that cannot be used. Holds every problem that was found, not just the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(problem.render() for problem in problems))
        self.problems = problems


def place(origin: str) -> str:
    """Origin without its column: 'shop.yml:41:7' -> 'shop.yml:41'."""
    head, _, last = origin.rpartition(":")
    if last.isdigit() and head.rpartition(":")[2].isdigit():
        return head
    return origin

"""What a gateway's kernel holds of the mesh: interfaces, routes, forwarding; and how all of it goes again.

Beside interconnect.py, which decides what there has to be.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
from pathlib import Path

RUN = Path("/run/marchproxy-interconnect")
PREFIX = "mpwg"
TABLE, RULE_PREFERENCE = "51820", "32000"
CHAIN = "MPWG"
BEFORE = RUN / "before.json"
FORWARD, LOOSE = Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/net/ipv4/conf/all/rp_filter")
CLAMP = ("-p", "tcp", "--tcp-flags", "SYN,RST", "SYN", "-j", "TCPMSS", "--clamp-mss-to-pmtu")


def run(*words: str) -> str:
    """Output of a command; CalledProcessError carries its own words."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def works(*words: str) -> bool:
    """Whether a command is there and ends well."""
    return (
        bool(shutil.which(words[0]))
        and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


def links() -> set[str]:
    """Interfaces of ours."""
    return {
        link["ifname"] for link in json.loads(run("ip", "-j", "link")) if link["ifname"].startswith(PREFIX)
    }


def make_link(name: str) -> None:
    """By the kernel where it has WireGuard, else by Debian's wireguard-go, a process that lives on."""
    if not works("ip", "link", "add", name, "type", "wireguard"):
        # It goes into the background and would hold our pipes.
        subprocess.run(
            ["wireguard-go", name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def present_routes() -> list[tuple[str, str]]:
    done = subprocess.run(
        ["ip", "-j", "-d", "route", "show", "table", TABLE], capture_output=True, text=True, check=False
    )
    # A table without routes does not exist.
    said = json.loads(done.stdout) if done.returncode == 0 and done.stdout else []
    return [(route.get("type", "unicast"), normal(route["dst"])) for route in said]


def normal(range_: str) -> str:
    """A destination as it is compared: a single address with its prefix, as the kernel does not write it."""
    return "0.0.0.0/0" if range_ == "default" else str(ipaddress.ip_network(range_))


def clamp(verb: str) -> None:
    """TCP of other hosts learns the tunnels' MTU from its first packets, both ways."""
    for direction in ("-o", "-i"):
        rule = ("FORWARD", direction, f"{PREFIX}+", *CLAMP)
        there = works("iptables", "-w", "-t", "mangle", "-C", *rule)
        if there != (verb == "-A"):
            run("iptables", "-w", "-t", "mangle", verb, *rule)


def forward(ranges: list[str]) -> None:
    """Forwarding between this network and the tunnels, and no other unless the host did so before we came."""
    remember()
    clamp("-A")
    before = json.loads(BEFORE.read_text())
    lines = [
        "*filter",
        f":{CHAIN} - [0:0]",
        f"-A {CHAIN} -i {PREFIX}+ -o {PREFIX}+ -j DROP",
        *(f"-A {CHAIN} -i {PREFIX}+ -d {range_} -j RETURN" for range_ in ranges),
        *(f"-A {CHAIN} -o {PREFIX}+ -s {range_} -j RETURN" for range_ in ranges),
        f"-A {CHAIN} -i {PREFIX}+ -j DROP",
        f"-A {CHAIN} -o {PREFIX}+ -j DROP",
        *([f"-A {CHAIN} -j DROP"] if before[str(FORWARD)] == "0" else []),
        "COMMIT",
    ]
    subprocess.run(
        ["iptables-restore", "-w", "--noflush"],
        input="\n".join(lines) + "\n", text=True, check=True, capture_output=True,
    )  # fmt: skip
    if not works("iptables", "-w", "-C", "FORWARD", "-j", CHAIN):
        run("iptables", "-w", "-I", "FORWARD", "-j", CHAIN)
    FORWARD.write_text("1")
    # A packet may come by another tunnel than its answer goes.
    LOOSE.write_text("2")


def unguard() -> None:
    works("iptables", "-w", "-D", "FORWARD", "-j", CHAIN)
    works("iptables", "-w", "-F", CHAIN)
    works("iptables", "-w", "-X", CHAIN)


def remember() -> None:
    """What the kernel was set to before us; kept until the next boot."""
    if not BEFORE.exists():
        RUN.mkdir(mode=0o700, exist_ok=True)
        BEFORE.write_text(json.dumps({str(path): path.read_text().strip() for path in (FORWARD, LOOSE)}))


def restore() -> None:
    """Kernel parameters as they were."""
    if BEFORE.exists():
        for path, value in json.loads(BEFORE.read_text()).items():
            Path(path).write_text(value)
        BEFORE.unlink()


def down() -> None:
    """Takes away all that is ours."""
    for name in links():
        run("ip", "link", "delete", name)
    works("ip", "route", "flush", "table", TABLE)
    while works("ip", "rule", "delete", "pref", RULE_PREFERENCE):
        pass
    if shutil.which("iptables"):
        clamp("-D")
        unguard()
    restore()

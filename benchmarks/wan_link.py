"""A wide area network on one machine: two network namespaces and a forwarder that delays every packet.

Each namespace has one TUN device and the rule that **every** packet goes out through it, packets between two
addresses of the same namespace too.  The forwarder, a process in user space, hands each IP packet on to
the namespace of its destination, half a round trip later.  Nothing ends a connection on the way: a TCP
connect costs a whole round trip, slow start costs what it costs, and a dropped packet is dropped in
silence.  Bandwidth is not bounded and nothing is lost otherwise.

`python -m benchmarks.wan_link RTT_MS NODES ASKERS` is the forwarder: it reads one JSON list of addresses per
line (those are silent from now on: packets from and to them are dropped) and says at the end of its input
how many packets it carried and how late it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import select
import shutil
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from time import monotonic
from typing import Any

TUN = Path("/dev/net/tun")
DEVICE = "wan0"
MTU = 1500
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000  # sched.h
TABLE = "100"
PRIORITY = -10
SAMPLES = 200_000
"""Lateness is kept of so many packets, the last ones."""


class NotPermitted(Exception):
    """No namespaces or no TUN devices here; the text says which."""


def host(index: int, *, asker: bool = False) -> str:
    """An address in a /24 of its own; nodes and askers live in different namespaces."""
    return f"10.{(129 if asker else 1) + index // 250}.{1 + index % 250}.1"


def ip(*arguments: str) -> None:
    """Run iproute2. Raises NotPermitted with what it said."""
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotPermitted("the command `ip` is missing (Debian: apt-get install iproute2)") from None
    if done.returncode:
        raise NotPermitted(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def check_permitted() -> None:
    """Raises NotPermitted where the network cannot be made."""
    if shutil.which("ip") is None:
        raise NotPermitted("the command `ip` is missing (Debian: apt-get install iproute2)")
    try:
        os.close(os.open(TUN, os.O_RDWR))
    except OSError as e:
        raise NotPermitted(f"{TUN}: {e.strerror}") from None
    with namespace(f"pqdht-{os.getpid()}-try"):
        pass


@contextlib.contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace with the device, and nothing reached but through it."""
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "tuntap", "add", "dev", DEVICE, "mode", "tun")
        for setting in ("rp_filter=0", "accept_local=1"):  # our own addresses come in from outside
            for device in ("all", DEVICE):
                sysctl(name, f"net/ipv4/conf/{device}/{setting}")
        ip("-n", name, "link", "set", DEVICE, "up", "mtu", str(MTU))
        ip("-n", name, "route", "add", "local", "10.0.0.0/8", "dev", "lo")  # every address is ours
        # What a process here sends leaves through the device; only what comes in from it is local.
        ip("-n", name, "rule", "add", "pref", "10", "iif", "lo", "lookup", TABLE)
        ip("-n", name, "route", "add", "default", "dev", DEVICE, "table", TABLE)
        ip("-n", name, "rule", "add", "pref", "20", "lookup", "local")
        ip("-n", name, "rule", "del", "pref", "0")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def sysctl(name: str, assignment: str) -> None:
    path, value = assignment.split("=")
    script = f"echo {value} > /proc/sys/{path}"
    ip("netns", "exec", name, "sh", "-c", script)


def put_first() -> None:
    """While it measures, this process goes before others where it may: waiting for a turn is no latency."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)


def inside(name: str, *command: str) -> list[str]:
    """A command line that runs in a namespace."""
    return ["ip", "netns", "exec", name, *command]


class Wan:
    """Two namespaces and the forwarder between and inside them; use in `with`."""

    def __init__(self, rtt_ms: float) -> None:
        self.nodes, self.askers = (f"pqdht-{os.getpid()}-{what}" for what in ("nodes", "askers"))
        self._rtt_ms = rtt_ms
        self._stack = contextlib.ExitStack()
        self.report: dict[str, Any] = {}
        """What the forwarder said at the end."""

    def __enter__(self) -> Wan:
        with contextlib.ExitStack() as stack:
            for name in (self.nodes, self.askers):
                stack.enter_context(namespace(name))
            forwarder = [sys.executable, "-m", "benchmarks.wan_link"]
            command = [*forwarder, str(self._rtt_ms), self.nodes, self.askers]
            root = Path(__file__).resolve().parent.parent
            self._forwarder = subprocess.Popen(
                command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self._forwarder.stdout is not None
            if self._forwarder.stdout.readline() != "ready\n":
                raise NotPermitted("the forwarder did not start")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            out, _ = self._forwarder.communicate()
            self.report = json.loads(out) if out else {}

    def silence(self, addresses: list[str]) -> None:
        """From now on packets from and to these are dropped; [] ends it."""
        assert self._forwarder.stdin is not None
        self._forwarder.stdin.write(json.dumps(addresses) + "\n")
        self._forwarder.stdin.flush()


# --- the forwarder ---------------------------------------------------------------------------------


def open_device(name: str) -> int:
    """The TUN device of a namespace; the descriptor works from anywhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = (os.open(p, os.O_RDONLY) for p in ("/proc/self/ns/net", f"/run/netns/{name}"))
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {name}")
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        if libc.setns(home, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns back")
    finally:
        os.close(home)
        os.close(there)
    return device


class Forwarder:
    """Every packet, half a round trip later, in order."""

    def __init__(self, one_way_s: float, nodes: int, askers: int) -> None:
        self._one_way_s = one_way_s
        self._nodes, self._askers = nodes, askers
        self._queue: deque[tuple[float, int, bytes]] = deque()
        self._silent: frozenset[bytes] = frozenset()
        self._packets = self._dropped = 0
        self._late: deque[float] = deque(maxlen=SAMPLES)

    def run(self) -> None:
        """Until standard input ends."""
        control = sys.stdin.fileno()
        watched = [self._nodes, self._askers, control]
        while True:
            wait = max(0.0, self._queue[0][0] - monotonic()) if self._queue else None
            ready, _, _ = select.select(watched, [], [], wait)
            for device in ready:
                if device != control:
                    self._take(device)
                elif line := sys.stdin.readline():
                    self._silent = frozenset(ipaddress.ip_address(a).packed for a in json.loads(line))
                else:
                    return
            self._hand_on()

    def _take(self, device: int) -> None:
        while True:
            try:
                packet = os.read(device, MTU)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:
                continue  # IPv6 neighbour discovery of the device
            source, target = packet[12:16], packet[16:20]
            if source in self._silent or target in self._silent:
                self._dropped += 1
                continue
            where = self._askers if target[1] & 0x80 else self._nodes
            self._queue.append((monotonic() + self._one_way_s, where, packet))

    def _hand_on(self) -> None:
        now = monotonic()
        while self._queue and self._queue[0][0] <= now:
            due, where, packet = self._queue.popleft()
            with contextlib.suppress(OSError):  # as a full queue on the way does
                os.write(where, packet)
            self._packets += 1
            self._late.append(now - due)

    def report(self) -> dict[str, Any]:
        """packets, dropped, late_ms."""
        cuts = quantiles(self._late, n=100) if len(self._late) > 1 else [0.0] * 99
        late = {f"p{p}": round(1000 * cuts[p - 1], 3) for p in (50, 95, 99)}
        return {"packets": self._packets, "dropped": self._dropped, "late_ms": late}


def main() -> int:
    rtt_ms, nodes, askers = sys.argv[1:]
    with contextlib.suppress(OSError):  # late packets would be ours, not the network's
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    forwarder = Forwarder(float(rtt_ms) / 2000, open_device(nodes), open_device(askers))
    print("ready", flush=True)
    forwarder.run()
    print(json.dumps(forwarder.report()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

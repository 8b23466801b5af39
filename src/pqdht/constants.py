"""Network parameter sets and the limits every receiver enforces.

A parameter set is part of what a network *is*; what one node may choose for itself is `Config`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .errors import ConfigError

PROTOCOL_VERSION = 1
"""The newest envelope version this code speaks."""
PROTOCOL_VERSION_MIN = 1
"""The oldest envelope version this code speaks."""
HANDSHAKE_FORMAT = 1
"""Frozen: bound into the Noise prologue, so another format is another handshake."""
RECORD_VERSION = 1

MS = 1000
MINUTE_MS = 60 * MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
DAY_S = 86_400

MAX_MESSAGE = 60 * 1024
"""Largest envelope in bytes: leaves room for tags and padding under Noise's 65,535."""
MAX_PAGE = 48 * 1024
"""Largest total of record bytes in one VALUES or STORE."""
MAX_ADDRESSES = 4
MAX_ADDRESS_LENGTH = 512
"""Characters; an obfs4 address with its certificate needs about 150."""
MAX_NAME = 64
"""Bytes of UTF-8 in a record name or topic."""
MAX_CONTACTS = 32
"""Contacts in one NODES or VALUES: k and some room."""
MAX_STORE_RECORDS = 64
MAX_HAVE = 64
"""Record ids in one FIND_VALUE."""
MAX_KNOWN = 64
"""Contacts that a question says it needs not be told again, ..."""
KNOWN_PREFIX = 4
"""... each by this many bytes of its id: an id with a prefix of one's choice costs 2^32 puzzles."""
MAX_FINDS = 32
"""Questions in one FIND_VALUES."""
MAX_PRAISED = 16
"""Node ids praised in one REPORT."""

BORN_MAX_AGE_DAYS = 37
"""30 days of use and 7 of grace (section 2)."""
BORN_MAX_AHEAD_DAYS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a receiver accepts.  Each has a test that hits it; raise one only for a private network."""

    max_value: int = 32 * 1024
    """Bytes of one value; must stay under `MAX_PAGE` with its signature and key."""
    ttl_min_s: int = 60
    """Shorter-lived records would cost more to store than they are worth."""
    ttl_max_s: int = 7 * DAY_S
    """Longer-lived records would outlive the nodes that promised them."""
    clock_skew_ms: int = 5 * MINUTE_MS
    """How far in the future a timestamp may lie."""
    floor_ms: int = 7 * DAY_MS
    """How long the highest timestamp per (key, owner) is remembered after it was stored: no older version
    that was ever signed for can outlive it."""
    records_per_key: int = 64
    """Records (owners) under one topic key; the rest compete by the topic order."""
    records_per_owner: int = 1024
    bytes_per_owner: int = 4 * 1024 * 1024
    records_per_group: int = 4096
    """Records stored at the request of one address group (/24 or /48)."""
    bytes_per_group: int = 32 * 1024 * 1024
    bytes_total: int = 512 * 1024 * 1024
    """All record bytes on this node."""
    bucket_per_group: int = 2
    """Contacts of one address group in one k-bucket."""
    table_per_group: int = 10
    """Contacts of one address group in the whole table."""
    table_per_wide_group: int = 20
    """Contacts of one IPv6 /32 in the whole table (a /32 holds 65,536 /48s)."""
    answer_per_group: int = 2
    """Contacts of one address group taken from one answer, so nobody can aim us at a victim."""
    sessions_per_group: int = 16
    """Inbound sessions from one address group."""
    sessions_total: int = 1024
    half_open_per_group: int = 8
    half_open_total: int = 1024
    half_open_bytes_per_group: int = 64 * 1024
    """Bytes of unfinished handshakes held in memory for one address group."""
    half_open_bytes_total: int = 8 * 1024 * 1024
    handshake_timeout_s: float = 5.0
    request_cost_per_s: float = 1000.0
    """CPU-cost units per second and node id (one unit is about one signature check)."""
    request_cost_burst: float = 4000.0
    group_cost_per_s: float = 2000.0
    """The same per address group, before the sender is known."""
    group_cost_burst: float = 8000.0
    requests_in_flight: int = 128
    """Unanswered requests of one session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSet:
    """A network: its name, its salt, and the rules its members share."""

    name: str
    genesis_salt: bytes
    k: int = 20
    """Bucket size and replication degree."""
    puzzle_schedule: tuple[tuple[int, int], ...] = ((0, 16),)
    """((first day number, bits), ...) ascending: bits asked of ids born from that day on."""
    address_groups: bool = True
    """Apply the /24, /48 and /32 rules."""
    private_addresses: bool = False
    """Accept loopback and private addresses in contacts (test networks)."""
    limits: Limits = Limits()

    def puzzle_bits(self, born: int) -> int:
        """Leading zero bits asked of an id born on day `born`."""
        bits = 0
        for first_day, asked in self.puzzle_schedule:
            if born >= first_day:
                bits = asked
        return bits


MAIN = ParameterSet(name="main", genesis_salt=b"pqdht main 2026\x00")
TESTNET = ParameterSet(
    name="testnet",
    genesis_salt=b"pqdht testnet 26",
    puzzle_schedule=((0, 4),),
    private_addresses=True,
)
DEMO = replace(TESTNET, name="demo", genesis_salt=b"pqdht demo 2026\x00", k=4)

_SHIPPED = {p.name: p for p in (MAIN, TESTNET, DEMO)}


def parameter_set(name: str) -> ParameterSet:
    """A shipped parameter set by name. Raises ConfigError."""
    try:
        return _SHIPPED[name]
    except KeyError:
        known = ", ".join(sorted(_SHIPPED))
        raise ConfigError(f"no network named {name!r}; use one of: {known}", name="network") from None

"""What one node may choose for itself.  Every field is documented; security is on by default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .constants import DAY_S, MAX_ADDRESSES, ParameterSet, parameter_set
from .errors import ConfigError

Consistency = Literal["majority", "first", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of one `SecureDHT`.  Frozen: a running node never changes under its user."""

    network: str | ParameterSet = "main"
    """`main`, `testnet`, `demo`, or a parameter set of your own. Networks never mix."""
    suite: int = 1
    """1: ML-DSA-65/87 with X-Wing (default). 2: pure post-quantum, level 5. 3: smallest standard."""
    provider: Literal["auto", "openssl", "liboqs"] = "auto"
    """Who computes: `auto` takes liboqs where its library is found, else OpenSSL."""
    data_dir: Path | None = None
    """Keys, records and remembered peers. None keeps all in memory: a new identity each start."""
    listen: tuple[str, ...] = ("tcp/0.0.0.0:4733",)
    """Addresses to accept on; empty for a client that only asks."""
    advertise: tuple[str, ...] = ()
    """Addresses others are told; empty: the listening ones that name a specific host."""
    bootstrap: tuple[str, ...] = ()
    """Entries `<node id>@tcp/host:port`. Asked when no remembered peer answers, and always at first."""
    signing: Literal["every", "claims"] = "every"
    """`claims` leaves requests unsigned inside a session (answers stay signed): faster, less evidence."""
    early: Literal["reads", "never"] = "reads"
    """`never` keeps questions out of the first flight, which a recorder could replay for 5 minutes."""
    padding: Literal["off", "256", "constant"] = "256"
    """Frames padded to 256 bytes; `constant` to 16 KiB, which makes most look alike and costs much."""
    bridge: bool = False
    """Accept only callers who know our KEM key already; answers nothing to scanners."""

    paths: int = 4
    """Disjoint lookup paths (d). More resists more Sybils and costs more questions."""
    parallel: int = 3
    """Questions in flight on one path (Kademlia's alpha). More is faster and wastes more."""
    path_end: int = 6
    """A path ends when its own closest this many have answered (k'): 4 x 5 would be exactly k."""
    path_end_doubt: int = 8
    """k' for every PUT and wherever an answer is in doubt."""
    consistency: Consistency = "majority"
    """When GET is sure: `first` valid record, a `majority` of holders, or `all` of the k closest."""
    dial_timeout_s: float = 5.0
    """Bound on connecting and shaking hands."""
    request_timeout_s: float = 5.0
    """Upper bound on one answer; measured round trips make it much shorter for known peers."""
    lookup_timeout_s: float = 30.0
    """Bound on one whole GET, PUT or lookup."""
    max_sessions: int = 1024
    """Open sessions; the least recently used that is not in the table goes first."""
    session_idle_s: float = 120.0
    """An idle session with a peer outside the table ends after this."""
    keepalive_s: float = 300.0
    """Silence on a table peer's session after which a keep-alive is sent."""

    walk_interval_young_s: float = 300.0
    """Random walk interval in the first half hour."""
    walk_interval_s: float = 1800.0
    """Random walk interval later."""
    refresh_idle_s: float = 3600.0
    """A bucket without a lookup for this long is refreshed."""
    replicate_interval_s: float = 3600.0
    """How often storers re-replicate what nobody else did, with jitter."""
    republish_interval_s: float = 3600.0
    """How often owners put their own records again."""
    announce_ttl_s: int = DAY_S
    """Life of the peer record; it is renewed at half of it."""
    max_table_idle_s: float = 900.0
    """Only peers heard within this time are passed on to others."""

    def __post_init__(self) -> None:
        positive = (
            "paths parallel path_end dial_timeout_s request_timeout_s lookup_timeout_s max_sessions "
            "session_idle_s keepalive_s walk_interval_young_s walk_interval_s refresh_idle_s "
            "replicate_interval_s republish_interval_s max_table_idle_s"
        )
        for name in positive.split():
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}", name=name)
        if self.path_end_doubt < self.path_end:
            raise ConfigError("path_end_doubt must be at least path_end", name="path_end_doubt")
        if self.suite not in (1, 2, 3):
            raise ConfigError(f"suite must be 1, 2 or 3, got {self.suite}", name="suite")
        choices = {
            "provider": ("auto", "openssl", "liboqs"),
            "signing": ("every", "claims"),
            "early": ("reads", "never"),
            "padding": ("off", "256", "constant"),
            "consistency": ("majority", "first", "all"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}", name=name
                )
        if len(self.advertise) > MAX_ADDRESSES:
            raise ConfigError(f"at most {MAX_ADDRESSES} addresses can be advertised", name="advertise")
        params = self.params
        if not params.limits.ttl_min_s <= self.announce_ttl_s <= params.limits.ttl_max_s:
            raise ConfigError(
                f"announce_ttl_s must lie in {params.limits.ttl_min_s}..{params.limits.ttl_max_s}",
                name="announce_ttl_s",
            )

    @property
    def params(self) -> ParameterSet:
        """The network's parameter set. Raises ConfigError for an unknown name."""
        return parameter_set(self.network) if isinstance(self.network, str) else self.network

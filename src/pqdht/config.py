"""What one node may choose for itself.  Every field is documented; security is on by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from .constants import DAY_S, MAX_ADDRESSES, ParameterSet, parameter_set
from .errors import ConfigError

MAX_STAKE_BITS = 32
"""About a week of one core: nobody finds more in time for it to be of use."""
Consistency = Literal["majority", "first", "all"]
DefenceMode = Literal["enforce", "observe", "off"]
"""What a defence does with what it finds: acts on it; counts and logs it; nothing."""

DEFENCES: Mapping[str, DefenceMode] = MappingProxyType(
    {
        "reputation": "enforce",
        "quarantine": "enforce",
        "reports": "enforce",
        "invalid_rate": "enforce",
        "sybil_test": "enforce",
        "region": "enforce",
        "walk_check": "enforce",
        "redraw": "enforce",
        "rate_limits": "enforce",
        "dial_caps": "enforce",
        "disjoint_paths": "enforce",
        "response_time": "observe",
        "addresses": "observe",
        "formats": "observe",
        "referrals": "observe",
        "closer_answers": "observe",
        "equal_answers": "observe",
        "clocks": "observe",
    }
)
"""Every defence that can be rolled out step by step, and its mode where `Config.defences` says nothing.
What each does and its threshold: docs/operations.md."""


THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {
        "distrust": 0.25,
        "quarantine.table_share": 0.10,
        "quarantine.bucket_share": 0.25,
        "invalid_rate.invalid": 5,
        "invalid_rate.enough": 10,
        "invalid_rate.window": 20,
        "sybil_test.divergence": 0.0,
        "walk_check.overlap": 0.5,
        "response_time.z": 6.0,
        "clocks.z": 6.0,
        "referrals.share": 0.5,
        "closer_answers.chance": 1e-4,
        "equal_answers.nodes": 4,
    }
)
"""From where on a defence acts, where `Config.thresholds` says nothing; 0 for the divergence: by k."""


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
    """Keys, records and remembered peers; text is taken as a path. None keeps all in memory: a new
    identity each start."""
    listen: tuple[str, ...] = ("tcp/0.0.0.0:4733",)
    """Addresses to accept on; empty for a client that only asks."""
    advertise: tuple[str, ...] = ()
    """Addresses others are told; empty: the listening ones that name a specific host."""
    bootstrap: tuple[str, ...] = ()
    """Entries `<node id>@tcp/host:port`. Asked when no remembered peer answers, and always at first."""
    pinned: tuple[str, ...] = ()
    """Entries like those of `bootstrap`: nodes you trust. They are joined through too, and never
    lose their place in the table once met."""
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
    """Questions in flight on one path (Kademlia's alpha), twice as many with those that take a dial. More is
    faster and wastes more."""
    path_end: int = 6
    """A path ends when its own closest this many have answered (k'): 4 x 5 would be exactly k."""
    paths_doubt: int = 8
    """Disjoint paths of a second lookup where a GET saw nothing valid: colluders deny together."""
    path_end_doubt: int = 8
    """k' for every PUT and wherever an answer is in doubt."""
    consistency: Consistency = "majority"
    """When GET is sure: `first` valid record, a `majority` of holders, or `all` of the k closest."""
    dial_timeout_s: float = 5.0
    """Upper bound on connecting; measured round trips make it shorter."""
    request_timeout_s: float = 5.0
    """Upper bound on one answer; measured round trips make it much shorter for known peers."""
    lookup_timeout_s: float = 30.0
    """Bound on one whole GET, PUT or lookup."""
    max_sessions: int = 1024
    """Open sessions; the least recently used that is not in the table goes first."""
    session_idle_s: float = 120.0
    """An idle session with a peer outside the table ends after this, if we dialled it; a caller may keep
    its own alive."""
    keepalive_s: float = 300.0
    """Silence on a table peer's session after which a keep-alive is sent; 2.5 times that ends a session."""
    renew_interval_s: float = 3600.0
    """Age of a session's keys at which a new handshake inside it replaces them. Less is more work."""

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
    stake_bits: int = 0
    """Bits of a further puzzle to solve each week, in the background; 0: none. Each costs twice as much (20:
    about 140 s of a core), gives 5 % more of what a node may ask and store, up to 20 bits, and a better place
    under full topics."""
    announce_ttl_s: int = DAY_S
    """Life of the peer record; it is renewed at half of it."""
    max_table_idle_s: float = 900.0
    """Only peers heard within this time are passed on to others."""

    defences: Mapping[str, DefenceMode] | DefenceMode | None = field(default=None, hash=False)
    """Modes by name, where they differ from `DEFENCES`; or one mode for all.  What must always hold
    (signatures, the confirmation rule, limits of the parameter set) has no mode."""
    thresholds: Mapping[str, float] | None = field(default=None, hash=False)
    """Thresholds of defences by name, where they differ from `THRESHOLDS`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "defences", _modes(self.defences))
        object.__setattr__(self, "thresholds", _thresholds(self.thresholds))
        for name in ("listen", "advertise", "bootstrap", "pinned"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        object.__setattr__(self, "data_dir", _path(self.data_dir))
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed or type(value) is not type(allowed[0]):  # 1 == True == 1.0
                listed = ", ".join(map(str, allowed))
                raise ConfigError(f"{name} must be one of {listed}, got {value!r:.80}", name=name)
        for name in _COUNTS + _SECONDS:
            _check_number(name, getattr(self, name), whole=name in _COUNTS)
        if self.path_end_doubt < self.path_end:
            raise ConfigError("path_end_doubt must be at least path_end", name="path_end_doubt")
        bits: object = self.stake_bits
        if isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits <= MAX_STAKE_BITS:
            allowed_bits = f"a whole number of 0..{MAX_STAKE_BITS}"
            raise ConfigError(f"stake_bits must be {allowed_bits}, got {bits!r:.80}", name="stake_bits")
        if len(self.advertise) > MAX_ADDRESSES:
            raise ConfigError(f"at most {MAX_ADDRESSES} addresses can be advertised", name="advertise")
        limits = self.params.limits
        if not limits.ttl_min_s <= self.announce_ttl_s <= limits.ttl_max_s:
            raise ConfigError(
                f"announce_ttl_s must lie in {limits.ttl_min_s}..{limits.ttl_max_s}", name="announce_ttl_s"
            )

    @property
    def entries(self) -> tuple[str, ...]:
        """Every way in that is configured."""
        return tuple(dict.fromkeys((*self.pinned, *self.bootstrap)))

    @property
    def params(self) -> ParameterSet:
        """The network's parameter set. Raises ConfigError for an unknown name."""
        network: object = self.network
        if isinstance(network, ParameterSet):
            return network
        if isinstance(network, str):
            return parameter_set(network)
        raise ConfigError(
            f"network must be a name or a ParameterSet, got {type(network).__name__}", name="network"
        )


_CHOICES: dict[str, tuple[object, ...]] = {
    "suite": (1, 2, 3),
    "bridge": (False, True),
    "provider": ("auto", "openssl", "liboqs"),
    "signing": ("every", "claims"),
    "early": ("reads", "never"),
    "padding": ("off", "256", "constant"),
    "consistency": get_args(Consistency),
}
_COUNTS = ("paths", "paths_doubt", "parallel", "path_end", "path_end_doubt", "max_sessions", "announce_ttl_s")
_SECONDS = tuple(f.name for f in fields(Config) if f.name.endswith("_s") and f.name not in _COUNTS)


def _modes(given: object) -> Mapping[str, DefenceMode]:
    """The mode of every defence."""
    allowed = get_args(DefenceMode)
    if given is None:
        return DEFENCES
    if given in allowed:
        given = dict.fromkeys(DEFENCES, given)
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"defences must be a dict of names to modes, got {type(given).__name__}", name="defences"
        )
    for name, mode in given.items():
        if name not in DEFENCES:
            known = ", ".join(DEFENCES)
            raise ConfigError(f"defences: none is named {name!r:.80}; there are: {known}", name="defences")
        if mode not in allowed:
            listed = ", ".join(allowed)
            raise ConfigError(f"defences: {name} must be one of {listed}, got {mode!r:.80}", name="defences")
    return MappingProxyType({**DEFENCES, **given})


def _thresholds(given: object) -> Mapping[str, float]:
    """The threshold of every defence that has one."""
    if given is None:
        return THRESHOLDS
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"thresholds must be a dict of names to numbers, got {type(given).__name__}", name="thresholds"
        )
    for name, value in given.items():
        if name not in THRESHOLDS:
            known = ", ".join(THRESHOLDS)
            raise ConfigError(f"thresholds: none is named {name!r:.80}; there are {known}", name="thresholds")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < inf or (value == 0) > (THRESHOLDS[name] == 0):
            raise ConfigError(
                f"thresholds: {name} must be a number above 0, got {value!r:.80}", name="thresholds"
            )
    chosen = {**THRESHOLDS, **given}
    counts = [chosen[f"invalid_rate.{n}"] for n in ("invalid", "enough", "window")]
    if counts != sorted(counts) or counts[0] < 1:
        raise ConfigError(
            "thresholds: invalid_rate needs 1 <= invalid <= enough <= window", name="thresholds"
        )
    return MappingProxyType(chosen)


def _texts(name: str, value: object) -> tuple[str, ...]:
    """A tuple or list of texts.  One text alone would be taken apart into its letters."""
    if not isinstance(value, tuple | list) or not all(isinstance(text, str) for text in value):
        hint = f"; write {name}=({value!r:.80},)" if isinstance(value, str) else ""
        raise ConfigError(f"{name} must be a tuple of texts, got {type(value).__name__}{hint}", name=name)
    return tuple(value)


def _path(value: object) -> Path | None:
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ConfigError(f"data_dir must be a path, got {value!r:.80}", name="data_dir")
    return Path(value)


def _check_number(name: str, value: object, *, whole: bool) -> None:
    wanted = "a whole number" if whole else "a number of seconds"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ConfigError(f"{name} must be {wanted}, got {value!r:.80}", name=name)
    if not value > 0:  # nor NaN
        raise ConfigError(f"{name} must be above 0, got {value}", name=name)

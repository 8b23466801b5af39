"""Everything a node is made of that a test may want to replace: handed in, never global."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import Config
from ..constants import ParameterSet
from ..crypto.api import Provider, Suite, make_suite
from ..crypto.labels import network_tag
from ..crypto.providers import get_provider
from ..errors import ConfigError, DecodeError
from ..identity.contact import ContactVerifier
from ..identity.keys import NodeIdentity, OwnerIdentity
from ..ids import parse_id
from ..records import RecordVerifier
from ..storage.base import Store
from ..transport.base import Transport
from ..trust.modes import Mode
from ..wire.address import Address, parse_address
from ..wire.messages import MESSAGES, MessageSet


def system_clock() -> int:
    """Wall clock in ms since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Replacements for what `SecureDHT` would make itself.  The simulator fills all of them."""

    provider: Provider | None = None
    transports: tuple[Transport, ...] | None = None
    clock: Callable[[], int] = system_clock
    dice: random.Random | None = None
    """Jitter and random targets; never secrets."""
    store: Store | None = None
    node: NodeIdentity | None = None
    owner: OwnerIdentity | None = None
    messages: MessageSet = MESSAGES
    """What the node speaks; a test hands in that of another protocol version."""


@dataclass(slots=True, kw_only=True)
class Environment:
    """The composed parts of one running node."""

    config: Config
    params: ParameterSet
    suite: Suite
    network_tag: bytes
    identity: NodeIdentity
    owner: OwnerIdentity
    clock: Callable[[], int]
    dice: random.Random
    store: Store
    transports: dict[str, Transport]
    contacts: ContactVerifier
    records: RecordVerifier
    messages: MessageSet = MESSAGES
    counters: Counter[str] = field(default_factory=Counter)
    """What really happened; shown by `status()` and asserted by the live tests."""
    join_errors: dict[str, str] = field(default_factory=dict)
    """Why a bootstrap entry did not let us in when it was last tried."""
    started: int = 0
    """ms since the epoch."""
    addresses: tuple[str, ...] = ()
    """What our contact says, once listening."""
    stake: bytes | None = None
    """Of this week, once it is found."""

    def __post_init__(self) -> None:
        self.started = self.clock()

    def mode(self, defence: str) -> Mode:
        """What a defence (`config.DEFENCES`) does with what it finds."""
        assert isinstance(self.config.defences, Mapping)
        return Mode(self.config.defences[defence])

    def threshold(self, name: str) -> float:
        """From where on a defence acts (`config.THRESHOLDS`)."""
        assert self.config.thresholds is not None
        return self.config.thresholds[name]

    @property
    def answer_per_group(self) -> int | None:
        """Nodes of one address group that count as long as others remain; None: any number."""
        return self.params.limits.answer_per_group if self.params.address_groups else None

    @property
    def own_group(self) -> str:
        """The address group of our first address, '' where we have none."""
        return next((a.group for a in map(parse_address, self.addresses)), "")


def choose_suite(config: Config, provider: Provider | None) -> Suite:
    """The suite over the configured provider. Raises ProviderUnavailable."""
    return make_suite(config.suite, provider or get_provider(config.provider))


def tag_of(config: Config) -> bytes:
    """The network tag of a configuration."""
    params = config.params
    return network_tag(params.name, params.genesis_salt, config.suite)


def split_bootstrap(entry: str) -> tuple[bytes, Address]:
    """`<node id>@tcp/host:port` into id and address. Raises ConfigError."""
    node, at, address = entry.partition("@")
    if not at:
        raise ConfigError(f"bootstrap entry {entry!r} must read <node id>@tcp/host:port", name="bootstrap")
    try:
        return parse_id(node, "bootstrap node id"), parse_address(address)
    except DecodeError as e:
        raise ConfigError(f"bootstrap entry {entry!r}: {e}", name="bootstrap") from None


def data_file(config: Config, name: str) -> Path | None:
    """A file in the data directory, None where all is kept in memory."""
    return config.data_dir / name if config.data_dir is not None else None

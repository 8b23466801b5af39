"""From a `Config` to the parts of a running node."""

from __future__ import annotations

import random

from ..config import Config
from ..errors import ConfigError, DecodeError
from ..identity.contact import ContactVerifier
from ..records import RecordVerifier
from ..storage.base import Store
from ..storage.memory import MemoryStore
from ..storage.sqlite import SqliteStore
from ..transport.base import Transport
from ..transport.tcp import TcpTransport
from ..wire.address import Address, parse_address
from .environment import Environment, Parts, choose_suite, split_bootstrap, tag_of
from .identities import load_or_make_node, load_or_make_owner


async def compose(config: Config, parts: Parts) -> Environment:
    """What `parts` does not replace is made here. Raises ConfigError, KeyFileError, StorageError,
    ProviderUnavailable."""
    params = config.params
    suite = choose_suite(config, parts.provider)
    tag = tag_of(config)
    for entry in config.entries:
        split_bootstrap(entry)
    store = parts.store or _open_store(config, parts.clock())
    try:
        node = parts.node or await load_or_make_node(config, suite, tag, parts.clock())
        owner = parts.owner or load_or_make_owner(config, suite)
    except BaseException:
        await store.close()
        raise
    contacts = ContactVerifier(suite, params, tag)
    transports = parts.transports if parts.transports is not None else (_tcp(config),)
    return Environment(
        config=config,
        params=params,
        suite=suite,
        network_tag=tag,
        identity=node,
        owner=owner,
        clock=parts.clock,
        dice=parts.dice or random.Random(suite.random_bytes(16)),
        store=store,
        transports={t.scheme: t for t in transports},
        contacts=contacts,
        records=RecordVerifier(suite, params, tag, contacts),
        messages=parts.messages,
    )


def _open_store(config: Config, now: int) -> Store:
    most = config.params.limits.bytes_total
    if config.data_dir is None:
        return MemoryStore(most)
    return SqliteStore(config.data_dir / "records.sqlite", most, now)


def _tcp(config: Config) -> Transport:
    """Dial from the address we listen on, where it is a specific one."""
    hosts = [a.host for a in map(own_address, config.listen) if a.ip and not a.ip.is_unspecified]
    return TcpTransport(bind_host=hosts[0] if hosts else None)


def own_address(text: str) -> Address:
    """An address of our own, as configured. Raises ConfigError."""
    try:
        return parse_address(text)
    except DecodeError as e:
        raise ConfigError(str(e), name="address") from None

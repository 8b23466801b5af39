"""Nodes that attack: each a real node with some answers replaced.

    gang = enlist("forger", net.nodes[:3])      # in a running Testnet of any kind
    await gang.act()                            # what they do by themselves, once

`ADVERSARIES` lists them.  Gang members know what each of them was shown; nothing here knows the keys of
honest nodes or owners.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import ConfigError
from ...node.dht import SecureDHT
from .base import STRUCTURAL, Adversary, Gang, History
from .contacts import AddressSpoofer, ContactLiar, Eclipser, Reflector
from .floods import Flooder
from .places import TableSquatter, TopicSquatter
from .reports import Framer, Slanderer
from .silence import Dropper, SlowLoris
from .sleeper import Sleeper
from .sybils import ActiveSybilCluster, SybilCluster, ground
from .values import (
    FORGED,
    Claimer,
    Denier,
    Equivocator,
    Forger,
    RegionColluder,
    RollbackByTtl,
    Staler,
)

__all__ = [
    "ADVERSARIES",
    "FORGED",
    "STRUCTURAL",
    "ActiveSybilCluster",
    "AddressSpoofer",
    "Adversary",
    "Claimer",
    "ContactLiar",
    "Denier",
    "Dropper",
    "Eclipser",
    "Equivocator",
    "Flooder",
    "Forger",
    "Framer",
    "Gang",
    "History",
    "Reflector",
    "RegionColluder",
    "RollbackByTtl",
    "Slanderer",
    "Sleeper",
    "SlowLoris",
    "Staler",
    "SybilCluster",
    "TableSquatter",
    "TopicSquatter",
    "enlist",
    "ground",
]

ADVERSARIES: dict[str, type[Adversary]] = {
    kind.name: kind
    for kind in (
        Forger,
        Staler,
        Denier,
        Claimer,
        Dropper,
        SlowLoris,
        ContactLiar,
        AddressSpoofer,
        Reflector,
        TopicSquatter,
        RollbackByTtl,
        Equivocator,
        Eclipser,
        TableSquatter,
        RegionColluder,
        Flooder,
        Sleeper,
        Slanderer,
        Framer,
        SybilCluster,
        ActiveSybilCluster,
    )
}
"""Every adversary by its name; call one with a running node and a gang."""


def enlist(name: str, nodes: Iterable[SecureDHT], gang: Gang | None = None) -> Gang:
    """Make running nodes adversaries of one kind, in one gang.  Raises ConfigError for an unknown name."""
    try:
        make = ADVERSARIES[name]
    except KeyError:
        known = ", ".join(sorted(ADVERSARIES))
        raise ConfigError(f"no adversary is named {name!r:.80}; there are {known}", name="attack") from None
    gang = gang if gang is not None else Gang()
    for node in nodes:
        make(node, gang)
    return gang

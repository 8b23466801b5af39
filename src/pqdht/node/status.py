"""What a node says about itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import Any

from .entrance import Entrance
from .environment import Environment
from .guard import Guard
from .peers import Peers
from .routing import Routing


def facts(
    env: Environment, peers: Peers, routing: Routing, entrance: Entrance, guard: Guard
) -> dict[str, Any]:
    """The answer to `status`, JSON-friendly."""
    counters = Counter(env.counters)
    counters["argon2_runs"] = env.contacts.argon2_runs
    counters["record_signatures_checked"] = env.records.signature_checks
    usage = env.store.usage()
    size = routing.sizes.estimate(asyncio.get_running_loop().time())
    return {
        "node_id": env.identity.node_id.hex(),
        "owner_id": env.owner.owner_id.hex(),
        "network": env.params.name,
        "suite": env.suite.number,
        "provider": env.suite.provider.name,
        "addresses": list(env.addresses),
        "bootstrapped": entrance.is_open.is_set(),
        "table": len(routing.table),
        "table_groups": len({e.group for e in routing.table}),
        "sessions": len(peers.sessions),
        "records": usage.records,
        "record_bytes": usage.bytes,
        "network_size": asdict(size) if size is not None else None,
        "quarantined": len(guard.held),
        "security": guard.status(),
        "counters": dict(sorted(counters.items())),
    }

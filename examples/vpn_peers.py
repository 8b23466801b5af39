"""Two VPN peers find each other: each announces its endpoint, and looks for the other by owner id.

The owner id is what people exchange once, like a telephone number; addresses may change afterwards.
"""

import asyncio
import secrets

from pqdht.testing import Testnet


async def main() -> None:
    async with Testnet.loopback(n=6) as net:  # a network; outside, give Config(bootstrap=...) instead
        alice, bob = net.nodes[1], net.nodes[4]
        await alice.announce(
            ["203.0.113.5:51820"], wireguard_key=secrets.token_bytes(32), attributes={"name": "alice"}
        )
        peer = await bob.find_peer(alice.owner_id)
        print(f"{peer.attributes['name']} is at {peer.endpoints[0]}, {peer.result.verdict.value}")


asyncio.run(main())

"""The smallest program: two nodes, one value."""

import asyncio

from pqdht import Config, SecureDHT


async def main() -> None:
    async with SecureDHT(Config(network="testnet", listen=("tcp/127.0.0.1:0",))) as first:
        config = Config(
            network="testnet",
            listen=("tcp/127.0.0.1:0",),
            bootstrap=(f"{first.node_id.hex()}@{first.env.addresses[0]}",),
        )
        async with SecureDHT(config) as second:
            await second.bootstrapped()
            await second.put("greeting", b"hello")
            print((await first.get("greeting", owner=second.owner_id)).value)


asyncio.run(main())

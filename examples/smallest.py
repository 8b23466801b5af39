"""The smallest program: two nodes, one value."""

import asyncio

from pqdht import Config, SecureDHT


async def main() -> None:
    async with SecureDHT(Config(network="testnet", listen=("tcp/127.0.0.1:0",))) as first:
        config = Config(
            network="testnet",
            listen=("tcp/127.0.0.1:0",),
            bootstrap=(first.bootstrap_entry,),
        )
        async with SecureDHT(config) as second:
            await second.bootstrapped(timeout_s=10)
            await second.put("greeting", b"hello")
            print((await first.get("greeting", owner=second.owner_id)).value)


asyncio.run(main())

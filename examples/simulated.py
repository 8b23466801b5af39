"""A test on a simulated network: twenty nodes, virtual time, a lossy network, a crash.

Takes a second of real time and gives the same packets, bit for bit, for the same seed.
"""

from pqdht.testing import Testnet, run


async def main() -> str:
    async with Testnet.simulated(n=20, seed=7, network="demo", simulator={"loss": 0.05}) as net:
        author = net.nodes[3]
        owner = author.owner_id
        await author.put("greeting", b"hello")
        await net.crash(3)
        result = await net.nodes[11].get("greeting", owner=owner)
        print(result.value, result.verdict.value, f"after {result.time_s:.3f} s of virtual time")
        return net.network.trace_hash()


first, second = run(main), run(main)
print("replayed exactly" if first == second else "the runs differ")

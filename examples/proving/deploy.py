"""Deploy a contract that has no constructor, such as a verifier, and print its address.

    python examples/proving/deploy.py verifier.bin

It needs httpx, and an EVM that signs for its own accounts, such as anvil.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from ml.testing.ethereum import Ethereum


async def main(options: argparse.Namespace) -> None:
    code = bytes.fromhex(options.code.read_text())
    async with Ethereum(options.rpc) as ethereum:
        [account, *_] = await ethereum.accounts()
        sys.stdout.write(await ethereum.deploy(code, "()", [], account) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("code", type=Path, help="the code in hex")
    parser.add_argument("--rpc", default="http://127.0.0.1:8545", help="an EVM, such as anvil")
    asyncio.run(main(parser.parse_args()))

"""Several generators read as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from ml.generation.merging import merged


class Source:
    """Yields numbers, and notes that it was closed."""

    def __init__(self, *numbers: int, fails: bool = False, waits: bool = False) -> None:
        self.numbers, self.fails, self.waits = numbers, fails, waits
        self.closed = False

    async def read(self) -> AsyncGenerator[int, None]:
        try:
            for number in self.numbers:
                await asyncio.sleep(0)
                yield number
            if self.waits:
                await asyncio.Event().wait()
            if self.fails:
                raise ValueError("broken")
        finally:
            self.closed = True


async def test_all_is_yielded_with_its_generator_and_in_its_order() -> None:
    sources = [Source(1, 2, 3), Source(), Source(4, 5)]
    items = [item async for item in merged([source.read() for source in sources])]
    assert [number for index, number in items if index == 0] == [1, 2, 3]
    assert [number for index, number in items if index == 2] == [4, 5]
    assert len(items) == 5
    assert [item async for item in merged([Source(7).read()])] == [(0, 7)]


async def test_a_failure_of_one_is_raised_and_closes_all() -> None:
    sources = [Source(1, waits=True), Source(2, fails=True), Source(waits=True)]
    with pytest.raises(ValueError, match="broken"):
        async for _ in merged([source.read() for source in sources]):
            pass
    assert all(source.closed for source in sources)


@pytest.mark.parametrize("number", [1, 3])
async def test_leaving_closes_all(number: int) -> None:
    sources = [Source(1, waits=True) for _ in range(number)]
    items = merged([source.read() for source in sources])
    for _ in range(number):
        await anext(items)
    await items.aclose()
    assert all(source.closed for source in sources)

"""Requests begin a few at a time, in their order, so that others get in between."""

from __future__ import annotations

import asyncio

from ml.serving.turns import Turns

FLOOD = 1000


async def begin(turns: Turns, number: int, begun: list[int]) -> None:
    await turns.wait()
    begun.append(number)


async def test_all_begin_in_their_order() -> None:
    turns, begun = Turns(), list[int]()
    await asyncio.gather(*(begin(turns, number, begun) for number in range(FLOOD)))
    assert begun == list(range(FLOOD))


async def test_who_comes_behind_a_flood_and_does_not_wait_for_a_turn_is_soon_done() -> None:
    turns, begun = Turns(), list[int]()
    flood = [asyncio.create_task(begin(turns, number, begun)) for number in range(FLOOD)]
    for _ in range(10):  # what a probe's answer takes
        await asyncio.sleep(0)
    assert 0 < len(begun) < FLOOD / 5
    await asyncio.gather(*flood)


async def test_a_lone_request_begins_at_once() -> None:
    turns, begun = Turns(), list[int]()
    for number in range(FLOOD):
        await begin(turns, number, begun)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    passed = asyncio.create_task(asyncio.sleep(0))
    await turns.wait()
    assert not passed.done()


async def test_who_leaves_the_line_gives_its_turn_to_the_next() -> None:
    turns, begun = Turns(), list[int]()
    flood = [asyncio.create_task(begin(turns, number, begun)) for number in range(FLOOD)]
    await asyncio.sleep(0)
    for task in flood[100:900]:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert begun == [*range(100), *range(900, FLOOD)]

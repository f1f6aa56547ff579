"""Which replica is asked to answer by an adapter."""

from __future__ import annotations

from collections import Counter

from ml.serving.adapter_places import Place, in_order

NAMES = [f"replica-{number}" for number in range(4)]


def place(name: str, *loaded: str, room: int = 8, requests: int = 0) -> Place:
    return Place(name, loaded, room, requests)


def first(adapter: str, places: list[Place]) -> str:
    return in_order(adapter, places)[0].name


def test_a_replica_that_has_the_adapter_is_asked_first() -> None:
    for holder in NAMES:
        places = [place(name, *(["x"] if name == holder else [])) for name in NAMES]
        assert first("x", places) == holder


def test_a_busy_replica_is_helped_and_one_with_a_few_requests_is_not() -> None:
    others = [place(name) for name in NAMES[1:]]
    assert first("x", [place(NAMES[0], "x", requests=16), *others]) == NAMES[0]
    assert first("x", [place(NAMES[0], "x", requests=17), *others]) != NAMES[0]


def test_where_all_have_much_to_do_none_is_busy() -> None:
    places = [place(name, *(["x"] if name == NAMES[2] else []), requests=100) for name in NAMES]
    assert first("x", places) == NAMES[2]


def test_an_adapter_that_is_loaded_nowhere_goes_where_there_is_room() -> None:
    places = [place(name, room=8 if name == NAMES[1] else 0) for name in NAMES]
    assert first("x", places) == NAMES[1]


def test_adapters_are_spread_and_the_loss_of_a_replica_moves_its_own_alone() -> None:
    places = [place(name) for name in NAMES]
    adapters = [f"adapter-{number}" for number in range(400)]
    before = {adapter: first(adapter, places) for adapter in adapters}
    assert min(Counter(before.values()).values()) > 50
    assert before == {adapter: first(adapter, places[::-1]) for adapter in adapters}
    for adapter, name in before.items():
        if name != NAMES[3]:
            assert first(adapter, places[:3]) == name

"""What waits for the reader of a stream: each text once and in order, whoever comes and goes."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp_server.network.outbox import KEPT_BYTES, KEPT_SECONDS, KEPT_TEXTS, Forgotten, Outbox, Taken

pytestmark = pytest.mark.anyio

_MOVES = st.lists(st.sampled_from(["put", "take", "lose", "come back", "count back"]), max_size=60)


@given(_MOVES, st.integers(1, 30))
def test_a_reader_that_comes_back_and_counts_hears_everything_once(moves: list[str], most: int) -> None:
    """`lose` is a connection that breaks with what was handed out last on its way."""

    async def play() -> None:
        outbox, heard, said = Outbox(), list[int](), 0
        reader = outbox.attach(0)
        for move in moves:
            match move:
                case "put":
                    said += 1
                    outbox.put(b"%d" % said)
                case "take" if not outbox.is_empty:
                    taken = await reader.take(most)
                    assert [int(text) for _, text in taken] == [number for number, _ in taken]
                    heard += [number for number, _ in taken]
                case "lose" if heard:
                    heard.pop()  # the last one never arrived
                    reader = outbox.attach(heard[-1] if heard else 0)
                case "come back":
                    reader.leave()
                    reader = outbox.attach(len(heard))
                case _:
                    pass
        outbox.finish()
        while not outbox.is_empty:
            heard += [number for number, _ in await reader.take(most)]
        assert heard == list(range(1, said + 1))
        with pytest.raises(anyio.EndOfStream):
            await reader.take(most)

    anyio.run(play)


async def test_a_second_reader_has_to_say_that_it_is_the_first_one() -> None:
    outbox = Outbox()
    first = outbox.attach(None)
    with pytest.raises(Taken):
        outbox.attach(None)
    outbox.attach(0)
    with pytest.raises(anyio.EndOfStream):
        await first.take(1)


async def test_what_was_handed_out_is_kept_for_those_who_count_and_not_without_end() -> None:
    outbox = Outbox()
    reader = outbox.attach(0)
    for n in range(KEPT_TEXTS + 10):
        outbox.put(b"%d" % n)
    while not outbox.is_empty:
        await reader.take(100_000)
    for after, known in ((KEPT_TEXTS + 10, True), (10, True), (9, False), (KEPT_TEXTS + 11, False)):
        if known:
            outbox.attach(after)
        else:
            with pytest.raises(Forgotten):
                outbox.attach(after)
    large = Outbox()
    reader = large.attach(0)
    for _ in range(10):
        large.put(b"x" * KEPT_BYTES)
        await reader.take(1)
    assert len(large._kept) <= 1


async def test_what_was_kept_long_enough_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox()
    reader = outbox.attach(0)
    outbox.put(b"1")
    await reader.take(1)
    outbox.forget(anyio.current_time() + KEPT_SECONDS - 1)
    outbox.attach(0)
    await outbox.reader.take(1)  # pyright: ignore[reportOptionalMemberAccess]
    outbox.forget(anyio.current_time() + KEPT_SECONDS + 1)
    with pytest.raises(Forgotten):
        outbox.attach(0)


async def test_who_does_not_count_is_kept_nothing_for() -> None:
    outbox = Outbox()
    reader = outbox.attach(None)
    outbox.put(b"1")
    await reader.take(1)
    assert not outbox._kept
    with pytest.raises(Forgotten):
        outbox.attach(0)


async def test_whoever_says_much_waits_for_its_reader() -> None:
    outbox = Outbox()
    while not outbox.is_crowded:
        outbox.put(b"text")
    reader = outbox.attach(0)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(outbox.room)
            await anyio.wait_all_tasks_blocked()
            await reader.take(100)

"""How calls that are too many wait for their turn."""

from __future__ import annotations

import asyncio
from typing import Any

from faas_worker.protocol import Heartbeat
from faas_worker.runner.calls import Call, CallTable
from faas_worker.runner.streams import CallOutput


def call() -> Call:
    async def send(_message: Any) -> None: ...

    return Call("", 1000, 0, CallOutput(None), send)


def full_table(slots: int) -> tuple[CallTable, list[Call]]:
    table = CallTable(slots, Heartbeat.shared())
    running = [call() for _ in range(slots)]
    assert all(map(table.enter, running))
    assert not table.enter(call())
    return table, running


async def free_slots(table: CallTable) -> int:
    """All of them are taken and given back."""
    entered = []
    while table.enter(another := call()):
        entered.append(another)
    for one in entered:
        table.leave(one)
    return len(entered)


async def waiting(table: CallTable, one: Call) -> asyncio.Task[None]:
    task = asyncio.create_task(table.enter_in_turn(one))
    await asyncio.sleep(0)
    return task


def test_those_that_wait_have_their_turn_in_order_and_before_all_others() -> None:
    async def main() -> None:
        table, running = full_table(2)
        first, second = call(), call()
        tasks = [await waiting(table, one) for one in (first, second)]
        table.leave(running[0])
        # It is handed over at once: who comes meanwhile doesn't get it.
        assert not table.enter(call())
        await tasks[0]
        assert first in table.running
        assert second not in table.running
        table.leave(first)
        await tasks[1]
        for one in (running[1], second):
            table.leave(one)
        assert await free_slots(table) == 2
        assert table.idle

    asyncio.run(main())


def test_a_call_that_is_cancelled_while_it_waits_keeps_nothing() -> None:
    async def main() -> None:
        table, running = full_table(1)
        tasks = [await waiting(table, call()) for _ in range(3)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        table.leave(running[0])
        assert await free_slots(table) == 1
        assert table.idle

    asyncio.run(main())


def test_a_turn_that_came_to_one_that_is_cancelled_goes_to_the_next() -> None:
    async def main() -> None:
        table, running = full_table(1)
        next_one = call()
        lost, kept = await waiting(table, call()), await waiting(table, next_one)
        table.leave(running[0])
        lost.cancel()
        await kept
        assert lost.cancelled()
        assert table.running == {next_one}
        table.leave(next_one)
        assert await free_slots(table) == 1
        assert table.idle

    asyncio.run(main())


def test_a_slot_that_is_lent_goes_to_those_that_wait_and_comes_back_once() -> None:
    async def main() -> None:
        table, running = full_table(1)
        waiter = call()
        task = await waiting(table, waiter)
        table.lend_slot(running[0])
        table.lend_slot(running[0])
        await task
        table.leave(waiter)
        table.leave(running[0])
        assert await free_slots(table) == 1

    asyncio.run(main())

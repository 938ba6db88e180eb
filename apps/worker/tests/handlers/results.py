"""Returns what it is told, in forms that plain JSON has no words for."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Order:
    number: int
    price: Decimal
    placed: datetime.date


def raise_half_way() -> Iterator[int]:
    yield 1
    raise KeyError("half-way")


def until_there_is(path: str) -> Iterator[str]:
    yield "not yet"
    Path(f"{path}.reached").touch()
    while not Path(path).exists():
        yield "not yet"


RESULTS: dict[str, Callable[[], Any]] = {
    "order": lambda: [Order(7, Decimal("1.10"), datetime.date(2024, 1, 2))],
    "nested nan": lambda: {"rows": [{"good": 1.5}, {"bad": float("nan")}]},
    "lines": lambda: (str(number) for number in range(3)),
    "raise half-way": raise_half_way,
    "endless": lambda: (number for number in itertools.count()),
    "endless texts": lambda: ("x" * 1_000_000 for _ in itertools.count()),
}


def handle(payload: str) -> Any:
    command, _, argument = payload.partition(":")
    if command == "until":
        return until_there_is(argument)
    return RESULTS[command]()


async def handle_async(payload: str) -> Any:
    return handle(payload)

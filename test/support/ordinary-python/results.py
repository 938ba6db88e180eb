import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Line:
    price: decimal.Decimal = decimal.Decimal("1.10")
    colour: Colour = Colour.RED


MOMENT = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def handle(payload):
    return {
        "moment": MOMENT,
        "day": MOMENT.date(),
        "took": datetime.timedelta(seconds=1.5),
        "whole": decimal.Decimal(10),
        "id": uuid.UUID(int=1),
        "lines": [Line()],
        "text": "größer".encode(),
        "set": {1},
        "pair": collections.namedtuple("Pair", "x y")(1, 2),
        "numbers": (number for number in range(3)),
        "queue": collections.deque([1]),
        "path": pathlib.PurePosixPath("/x"),
        "keys": {Colour.RED: 1, MOMENT.date(): 2, 3: None},
    }

"""What a handler may return, and how it is said in JSON."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import itertools
import json
import pathlib
import re
import types
import uuid
from collections import Counter, OrderedDict, UserDict, deque, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pandas
import pydantic
import pytest
from fastapi.encoders import jsonable_encoder

from faas_worker.runner.encoding import json_pieces
from faas_worker.runner.results import result_answer
from support import Worker, eventually

Start = Callable[..., Worker]
LIMIT = 1_000_000


class Colour(enum.Enum):
    RED = "red"


class Word(str, enum.Enum):  # noqa: UP042 - what many files still write
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    pass


class Whole(int):
    def __repr__(self) -> str:
        return "whole"


class Table(dict):
    pass


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Part:
    name: str
    at: datetime.time = datetime.time(1, 2)
    tags: set[str] = dataclasses.field(default_factory=lambda: {"new"})


class Model(pydantic.BaseModel):
    when: datetime.datetime = datetime.datetime(2024, 1, 2)
    price: decimal.Decimal = decimal.Decimal("1.10")
    secret: pydantic.SecretStr = pydantic.SecretStr("hidden")
    kind: Colour = Colour.RED
    parts: list[Part] = pydantic.Field(default=[], alias="Parts")


class Plain:
    def __init__(self) -> None:
        self.at = datetime.date(2024, 1, 2)
        self.points = [Point(1, 2)]


class Record:
    """A row, as database drivers make them."""

    def keys(self) -> list[str]:
        return ["id", "at"]

    def __getitem__(self, key: str) -> Any:
        return {"id": uuid.UUID(int=1), "at": datetime.date(2024, 1, 2)}[key]


MOMENT = datetime.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
VALUES: dict[str, Callable[[], Any]] = {
    "datetime": lambda: MOMENT,
    "date": MOMENT.date,
    "time": MOMENT.time,
    "timedelta": lambda: datetime.timedelta(minutes=1, milliseconds=5),
    "Decimal with a fraction": lambda: decimal.Decimal("1.10"),
    "whole Decimal": lambda: decimal.Decimal("1E+2"),
    "UUID": lambda: uuid.UUID(int=1),
    "Enum": lambda: Colour.RED,
    "str Enum": lambda: Word.RED,
    "IntEnum": lambda: Number.ONE,
    "namedtuple": lambda: Point(1, MOMENT),
    "bytes": lambda: "grün".encode(),
    "set": lambda: {1},
    "frozenset": lambda: frozenset(["a"]),
    "deque": lambda: deque([1, {2}]),
    "generator": lambda: (number for number in range(3)),
    "nested generators": lambda: ((n for n in range(2)) for _ in range(2)),
    "PurePath": lambda: pathlib.PurePosixPath("/x"),
    "Path": lambda: pathlib.Path("x/y"),
    "IPv4Address": lambda: ipaddress.ip_address("192.0.2.1"),
    "IPv6Interface": lambda: ipaddress.ip_interface("2001:db8::1/64"),
    "IPv4Network": lambda: ipaddress.ip_network("192.0.2.0/24"),
    "Pattern": lambda: re.compile("a+"),
    "dataclass": lambda: Part("a"),
    "model": Model,
    "models in a set of a dict": lambda: {"models": [Model(Parts=[Part("b")])]},
    "SecretStr": lambda: {"password": pydantic.SecretStr("hidden")},
    "SecretBytes": lambda: [pydantic.SecretBytes(b"hidden")],
    "AnyUrl": lambda: pydantic.AnyUrl("https://example.org/x"),
    "object": Plain,
    "SimpleNamespace": lambda: types.SimpleNamespace(a={1}),
    "record": Record,
    "UserDict": lambda: UserDict(a=MOMENT),
    "mappingproxy": lambda: types.MappingProxyType({"a": {1}}),
    "pairs": lambda: zip("ab", [1, 2], strict=True),
    "OrderedDict": lambda: OrderedDict(a={1}),
    "Counter": lambda: Counter("aab"),
    "subclasses": lambda: [Text("a"), Whole(3), Table(a=Text("b")), {1}],
    "keys": lambda: {1: "a", None: 2, 1.5: 3, MOMENT.date(): 4, Word.RED: 5, b"b": 6},
    "uuid keys": lambda: {uuid.UUID(int=1): {True: {2}}},
    "large integers": lambda: {"n": [2**70, -(2**70)], "s": {1}},
    "lone surrogate": lambda: {"\ud800": {"\udfff"}},
    "floats": lambda: [1e300, 5e-324, -0.0, {0.1}],
    "nothing": lambda: [[], {}, (), "", set(), (n for n in ()), None, True, False],
    "a long plain list beside a date": lambda: [list(range(1000)), MOMENT],
    "an exception": lambda: ValueError("x"),
    "": lambda: {"": {"": {1}, "a": 2}},
}


def result(value: Any) -> Any:
    answer = result_answer(value, LIMIT)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["result"]


@pytest.mark.parametrize("name", VALUES)
def test_a_result_has_the_form_that_fastapi_gives_it(name: str) -> None:
    make = VALUES[name]
    assert result(make()) == json.loads(json.dumps(jsonable_encoder(make())))


class Endless:
    def tolist(self) -> Endless:
        return self

    dtype = "none"


def cycle() -> Any:
    found: dict[str, Any] = {"a": {1}, "list": []}
    found["list"].append(found)
    return found


def deep(levels: int) -> Any:
    found: Any = MOMENT
    for _ in range(levels):
        found = [found]
    return found


REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: float("nan"), "", "float"),
    (lambda: {"rows": [{}, {"bad": float("inf")}]}, "rows[1].bad", "float"),
    (lambda: {"rows": ({"bad": n} for n in [1, float("-inf")])}, "rows[1].bad", "float"),
    (lambda: {"a": {"price": decimal.Decimal("nan")}}, "a.price", "Decimal"),
    (lambda: [decimal.Decimal("sNaN")], "[0]", "Decimal"),
    (object, "", "object"),
    (lambda: {"odd key": [MOMENT, object()]}, '["odd key"][1]', "object"),
    (lambda: {"a": {(1, 2): 3}}, "a[(1, 2)]", "tuple"),
    (lambda: {frozenset([1]): 3}, "[frozenset]", "frozenset"),
    (lambda: {float("nan"): 3}, "[nan]", "float"),
    (lambda: {"b": b"\xff"}, "b", "bytes"),
    (lambda: {"n": 10**5000}, "n", "int"),
    (lambda: {"n": decimal.Decimal("1e99999999")}, "n", "Decimal"),
    (lambda: [1j, 2], "[0]", "complex"),
    (lambda: {"f": fractions.Fraction(1, 3)}, "f", "Fraction"),
    (lambda: [range(3)], "[0]", "range"),
    (lambda: {"a": map(str, [1])}, "a", "map"),
    (lambda: {"a": {"b": 1}.keys()}, "a", "dict_keys"),
    (lambda: {"c": Part}, "c.__dict__", "getset_descriptor"),
    (cycle, "list[0]", "dict"),
    (lambda: Endless(), "", "Endless"),
    (lambda: {"part": Part(name=object())}, "part.name", "object"),  # type: ignore[arg-type]
    (lambda: {"model": Plain, "x": 1}, "model.__dict__", "getset_descriptor"),
]


@pytest.mark.parametrize(("make", "path", "kind"), REFUSED)
def test_a_refusal_names_where_it_is_and_what(
    make: Callable[[], Any], path: str, kind: str
) -> None:
    answer = result_answer(make(), LIMIT)
    document = json.loads(answer.body)
    error = document["error"]
    assert (answer.status, error["code"]) == (500, "handler_result_invalid")
    assert (error["path"], error["type"]) == (path, kind)
    assert error["message"].startswith(f"{path or 'it'} ")
    assert document["detail"].endswith(error["message"])


def test_a_range_or_a_view_is_told_how_to_become_a_list() -> None:
    assert "list(...)" in json.loads(result_answer(range(3), LIMIT).body)["detail"]


def test_what_is_nested_too_deep_is_refused_with_a_short_path() -> None:
    assert result(deep(900)) == json.loads("[" * 900 + json.dumps(MOMENT.isoformat()) + "]" * 900)
    for levels in (1001, 200_000):
        error = json.loads(result_answer(deep(levels), LIMIT).body)["error"]
        assert "deep" in error["message"]
        assert error["path"].startswith("[0][0]")
        assert len(error["path"]) < 1000


FRAME = pandas.DataFrame(
    {
        "name": ["a", "b"],
        "count": [1, 2],
        "at": pandas.to_datetime(["2024-01-02", None]),
        "kind": pandas.Categorical(["x", "y"]),
    }
)
ROWS = [
    {"name": "a", "count": 1, "at": "2024-01-02T00:00:00", "kind": "x"},
    {"name": "b", "count": 2, "at": None, "kind": "y"},
]
ARRAYS: list[tuple[Any, Any]] = [
    (numpy.int64(3), 3),
    (numpy.uint8(3), 3),
    (numpy.float32(0.5), 0.5),
    (numpy.float64(0.1), 0.1),
    (numpy.longdouble(1.5), 1.5),
    (numpy.bool_(True), True),
    (numpy.str_("a"), "a"),
    (numpy.bytes_(b"a"), "a"),
    (numpy.datetime64("2024-01-02"), "2024-01-02"),
    (numpy.datetime64("2024-01-02T03:04:05"), "2024-01-02T03:04:05"),
    (numpy.datetime64(1, "ns"), "1970-01-01T00:00:00.000000001"),
    (numpy.datetime64("NaT"), None),
    (numpy.timedelta64(5, "m"), 300.0),
    (numpy.timedelta64(1_500_000_000, "ns"), 1.5),
    (numpy.array(5), 5),
    (numpy.arange(10_000), list(range(10_000))),
    (numpy.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    (numpy.zeros((0, 3)), []),
    (numpy.zeros((2, 0)), [[], []]),
    (numpy.array(["2024-01-02", "NaT"], "datetime64[D]"), ["2024-01-02", None]),
    (numpy.array([1, "a", None, MOMENT.date()], object), [1, "a", None, "2024-01-02"]),
    (numpy.ma.array([1, 2], mask=[False, True]), [1, None]),
    (pandas.Series([1, 2]), [1, 2]),
    (pandas.Series([1, None], dtype="Int64"), [1, None]),
    (pandas.Index(["a", "b"]), ["a", "b"]),
    (pandas.Categorical(["a", "b"]), ["a", "b"]),
    (pandas.Timestamp("2024-01-02T03:04:05Z"), "2024-01-02T03:04:05+00:00"),
    (pandas.Timedelta(seconds=5), 5.0),
    (pandas.Period("2024-01"), "2024-01"),
    (pandas.NaT, None),
    (pandas.NA, None),
    (FRAME, ROWS),
    ({"rows": FRAME, numpy.int64(1): numpy.float32(2)}, {"rows": ROWS, "1": 2.0}),
    (pandas.DataFrame([[1, 2]]), [{"0": 1, "1": 2}]),
]


@pytest.mark.parametrize(("value", "expected"), ARRAYS, ids=lambda value: type(value).__name__)
def test_scalars_and_arrays_of_numpy_and_pandas_are_what_they_hold(
    value: Any, expected: Any
) -> None:
    assert result(value) == expected


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (numpy.float64("nan"), "", "float64"),
        ([numpy.complex128(1j)], "[0]", "complex128"),
        ({"a": numpy.array([[1.0, numpy.nan]])}, "a[0][1]", "float"),
        ({"rows": pandas.DataFrame({"bad": [1.0, None]})}, "rows[1].bad", "float"),
        (pandas.Series([1.0, None]), "[1]", "float"),
    ],
)
def test_what_is_no_number_in_an_array_is_refused(value: Any, path: str, kind: str) -> None:
    error = json.loads(result_answer(value, LIMIT).body)["error"]
    assert (error["code"], error["path"], error["type"]) == ("handler_result_invalid", path, kind)


def test_a_generator_may_change_what_it_lies_in() -> None:
    found: dict[str, Any] = {}

    def growing() -> Iterator[int]:
        for number in range(3):
            found[str(number)] = number
            yield number

    found["numbers"] = growing()
    assert result(found) == {"numbers": [0, 1, 2]}


@pytest.mark.parametrize("value", [[], {}, "x" * 10_000])
def test_results_are_measured_piece_by_piece_whatever_they_are_made_of(value: Any) -> None:
    first = next(json_pieces(value for _ in itertools.count()))
    assert len(first) < 200_000


@pytest.fixture(scope="module", params=["results.handle", "results.handle_async"])
def worker(request: pytest.FixtureRequest, start_shared: Start) -> Worker:
    return start_shared(request.param, FAAS_MAX_RESULT_BYTES="3000000")


def test_the_caller_gets_it(worker: Worker) -> None:
    order = {"number": 7, "price": 1.1, "placed": "2024-01-02"}
    assert worker.call("order").result == [order]
    assert worker.call("lines").result == ["0", "1", "2"]


def test_the_caller_hears_where_the_result_went_wrong(worker: Worker) -> None:
    answer = worker.call("nested nan")
    said = "rows[1].bad is nan, which JSON can't express"
    assert answer.json["detail"] == f"The handler's return value is not JSON: {said}"
    assert (answer.status, answer.error["message"]) == (500, said)
    assert (answer.error["path"], answer.error["type"]) == ("rows[1].bad", "float")


def test_what_a_generator_raises_is_the_handlers_error(worker: Worker) -> None:
    answer = worker.call("raise half-way")
    assert (answer.status, answer.error["code"]) == (400, "handler_error")
    assert (answer.error["type"], answer.error["message"]) == ("KeyError", "'half-way'")
    assert "in raise_half_way" in answer.error["traceback"]
    assert "faas_worker/" not in answer.error["traceback"]


@pytest.mark.parametrize("payload", ["endless", "endless texts"])
def test_a_generator_without_end_is_too_large(worker: Worker, payload: str) -> None:
    answer = worker.call(payload)
    assert (answer.status, answer.error["code"]) == (500, "handler_result_invalid")
    assert (answer.error["type"], answer.error.get("path")) == ("ResultTooLarge", None)
    assert worker.call("lines").runner == 1


@pytest.mark.parametrize("handler", ["results.handle", "results.handle_async"])
def test_a_long_conversion_leaves_others_their_turn_and_ends_with_its_limit(
    start: Start, handler: str, tmp_path: Any
) -> None:
    worker = start(handler, FAAS_MAX_RESULT_BYTES=str(2**32))
    gate = tmp_path / "gate"
    long = worker.start_call(f"until:{gate}")
    eventually((tmp_path / "gate.reached").exists, "the conversion has begun")
    assert worker.call("lines").result == ["0", "1", "2"]
    gate.touch()
    assert long.result().result[0] == "not yet"
    assert worker.call(f"until:{tmp_path / 'never'}", X_Faas_Timeout_Ms="300").status == 504
    assert worker.call("lines").result == ["0", "1", "2"]

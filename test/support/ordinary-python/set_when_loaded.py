"""What a file sets once for all of its calls, and what a call sets for itself."""

import contextvars
import decimal
import json
import random
import threading

decimal.getcontext().prec = 40
decimal.getcontext().rounding = decimal.ROUND_FLOOR
random.seed(11)
FIRST_NUMBERS = [random.randrange(1000) for _ in range(3)]
random.seed(11)

# As numpy keeps what divisions by zero do, and OpenTelemetry its baggage: a whole mapping in one variable.
settings = contextvars.ContextVar("settings", default={"divide": "warn"})
settings.set({"divide": "raise"})
# As loggers keep what is bound for a request.
bound = contextvars.ContextVar("bound", default=None)

here = threading.local()
here.connection = "open"


def handle(payload):
    event = json.loads(payload)
    if "caller" in event:
        bound.set({"caller": event["caller"]})
        decimal.setcontext(decimal.Context(prec=5, rounding=decimal.ROUND_FLOOR))
        settings.set(settings.get() | {"over": "ignore"})
    if event.get("meet"):
        MEETING.wait(10)
    return {
        "digits": len(str(decimal.Decimal(2) / 3)) - 2,
        "rounding": decimal.getcontext().rounding,
        "settings": settings.get(),
        "bound": bound.get(),
        "connection": getattr(here, "connection", None),
        "is_main_thread": threading.current_thread() is threading.main_thread(),
        "is_seeded": event.get("draw") and [random.randrange(1000) for _ in range(3)] == FIRST_NUMBERS,
    }


MEETING = threading.Barrier(2)


async def handle_async(payload):
    return handle(payload)

"""What only the thread that loaded the file may use."""

import asyncio
import signal
import sqlite3
import time

database = sqlite3.connect(":memory:")
database.execute("create table seen (word text)")
loop = asyncio.new_event_loop()


class TooSlow(Exception):
    pass


def give_up(number, frame):
    raise TooSlow


signal.signal(signal.SIGALRM, give_up)


def handle(payload):
    if payload == "count":
        database.execute("insert into seen values (?)", (payload,))
        return database.execute("select count(*) from seen").fetchone()[0]
    if payload == "loop":
        return loop.run_until_complete(asyncio.sleep(0.01, "slept"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        time.sleep(20)
    except TooSlow:
        return "given up"

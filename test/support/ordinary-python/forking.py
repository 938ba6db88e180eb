"""Children that were forked while other calls print, log and use a database."""

import logging
import multiprocessing
import random
import sqlite3
import sys

logging.basicConfig(stream=sys.stderr, level=logging.INFO)
context = multiprocessing.get_context("fork")


def child(number):
    print("in the child", number)
    logging.info("in the child %s", number)
    random.random()
    with sqlite3.connect(":memory:") as database:
        database.execute("select 1")
    sys.stdout.flush()


def handle(payload):
    statuses = set()
    for number in range(int(payload)):
        for _ in range(10):
            print("a line of the parent that others may be writing too", number, "x" * 80)
            logging.info("and one of its log %s", number)
        process = context.Process(target=child, args=(number,))
        process.start()
        process.join()
        statuses.add(process.exitcode or 0)  # None where another call's thread has waited for it
    return sorted(statuses)

import sys

sys.path.insert(0, "PACKAGES")

from gevent import monkey

monkey.patch_all()

import time

import gevent


def handle(payload):
    started = time.monotonic()
    jobs = [gevent.spawn(lambda n: time.sleep(0.2) or n, number) for number in range(10)]
    gevent.joinall(jobs, timeout=10)
    return [[job.value for job in jobs], time.monotonic() - started < 1.5]

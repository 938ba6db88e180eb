import concurrent.futures
import threading
import time


def handle(payload):
    command, _, argument = payload.partition(" ")
    count = int(argument)
    if command == "sleep":
        threads = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(threads)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return sum(pool.map(lambda _: time.sleep(0.01) or 1, range(count * 3)))

"""An async function: many calls wait on one worker at the same time.

Upload it with function_name=main. The payload is the number of milliseconds to wait, 100 if empty.
"""

import asyncio
import time


async def main(payload: str) -> dict:
    wanted = int(payload or 100) / 1000
    began = time.perf_counter()
    await asyncio.gather(*(asyncio.sleep(wanted) for _ in range(3)))
    return {"waits": 3, "elapsed_ms": round((time.perf_counter() - began) * 1000)}

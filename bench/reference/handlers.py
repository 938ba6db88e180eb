"""The handlers of every figure: the manager, the worker and the plain routes run this one file."""

import asyncio
import random
import time


def handle(payload: str) -> str:
    return payload


async def handle_async(payload: str) -> str:
    return payload


def sleep(payload: str) -> str:
    time.sleep(0.1)
    return payload


async def sleep_async(payload: str) -> str:
    await asyncio.sleep(0.1)
    return payload


async def uneven_async(payload: str) -> str:
    await asyncio.sleep(random.uniform(0.05, 0.15))
    return payload

/** Handlers as their authors would write them. */

export const ECHO = `def handle(payload):
    return payload
`;

export const ASYNC_ECHO = `import asyncio

async def handle(payload: str):
    await asyncio.sleep(0)
    return {"echo": payload}
`;

/** Does what it is told. */
export const OBEDIENT = `import os, time

def handle(payload):
    command, _, argument = payload.partition(" ")
    if command == "raise":
        raise ValueError(argument)
    if command == "return":
        return eval(argument)
    if command == "exit":
        os._exit(int(argument))
    if command == "sleep":
        time.sleep(float(argument))
        return "slept"
    if command == "allocate":
        return len(bytearray(int(argument) * 1024 * 1024))
    return command
`;

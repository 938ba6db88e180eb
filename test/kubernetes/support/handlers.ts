/** Tells its pod; burns or sleeps before, for as many seconds as it is told. */
export const TELLTALE = `import asyncio, socket, time

async def handle(payload):
    command, _, seconds = payload.partition(" ")
    if command == "sleep":
        await asyncio.sleep(float(seconds))
    if command == "burn":
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            pass
    return socket.gethostname()
`;

"""A web application: as a function, and served by uvicorn alone."""

import asyncio
import sys

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()
PIECE = b"x" * 65536


class Call(BaseModel):
    payload: str


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/echo")
async def echo(call: Call) -> dict[str, str]:
    return {"result": call.payload}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def pieces():
        for number in range(3):
            yield b"%d\n" % number
            await asyncio.sleep(0.005)

    return StreamingResponse(pieces())


@app.get("/bytes/{mebibytes}")
async def many_bytes(mebibytes: int) -> StreamingResponse:
    async def pieces():
        for _ in range(mebibytes * 16):
            yield PIECE

    return StreamingResponse(pieces())


if __name__ == "__main__":
    import uvicorn

    # As the worker runs it: the same parser and loop, no access log, no idle connection closed.
    uvicorn.run(
        app,
        host=sys.argv[2],
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=3600,
    )

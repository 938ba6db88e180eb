"""What the worker's hot route is measured against: the same contract as ordinary routes."""

import sys

import uvicorn
from fastapi import FastAPI
from handlers import handle, handle_async, sleep
from pydantic import BaseModel

app = FastAPI()


class Call(BaseModel):
    payload: str


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/def")
def run(call: Call) -> dict[str, str]:
    return {"result": handle(call.payload)}


@app.post("/async")
async def run_async(call: Call) -> dict[str, str]:
    return {"result": await handle_async(call.payload)}


@app.post("/sleep")
def run_sleep(call: Call) -> dict[str, str]:
    return {"result": sleep(call.payload)}


# As our worker runs it: the same parser and loop, no access log, no idle connection closed.
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

"""What the worker's hot route is measured against: the same contract as an ordinary route."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Request(BaseModel):
    payload: str


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/")
async def execute(request: Request) -> dict[str, str]:
    return {"result": request.payload}


uvicorn.run(app, uds=sys.argv[1], log_level="warning", access_log=False)

"""Storage in a FastAPI application: ``uvicorn examples.fastapi_app:app``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from dependency_injector.wiring import Provide, inject
from fastapi import Depends, FastAPI, HTTPException, Request, Response

from purveyor.containers import ApplicationContainer
from purveyor.providers.storage import InvalidKeyError, ObjectNotFoundError

container = ApplicationContainer()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Close everything when the application ends."""
    async with container.lifespan():
        yield


app = FastAPI(lifespan=lifespan)


@app.put("/files/{key:path}", status_code=201)
@inject
async def put_file(
    key: str, request: Request, storage: Any = Depends(Provide[ApplicationContainer.storage])
) -> dict[str, int]:
    """Store the body of the request, however large."""
    try:
        info = await storage.put(key, request.stream())
    except InvalidKeyError as error:
        raise HTTPException(422, error.message) from error
    return {"size": info.size}


@app.get("/files/{key:path}")
@inject
async def get_file(
    key: str, storage: Any = Depends(Provide[ApplicationContainer.storage])
) -> Response:
    """Return what was stored."""
    try:
        return Response(await storage.get(key), media_type="application/octet-stream")
    except ObjectNotFoundError as error:
        raise HTTPException(404, error.message) from error


container.wire(modules=[__name__])

"""Images of Runware: many models behind one interface (https://runware.ai/docs)."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from ....settings.branches import Count, Factor, Seconds
from ...web.errors import InvalidRequestError, ServiceError, ServiceTimeoutError
from ...web.retry import retry_after
from ...web.transport import Answer
from .config import ImageConfig
from .remote import Outcome, RemoteImages, as_object, as_objects
from .request import ImageRequest, parse_size
from .runware_errors import runware_error

__all__ = ["RunwareConfig", "RunwareImages"]

FORMATS = {"png": "PNG", "jpeg": "JPG", "webp": "WEBP"}
OWN_FIELDS = frozenset(
    {
        "deliveryMethod",
        "height",
        "includeCost",
        "model",
        "negativePrompt",
        "numberResults",
        "outputFormat",
        "outputQuality",
        "outputType",
        "positivePrompt",
        "seed",
        "taskType",
        "taskUUID",
        "webhookURL",
        "width",
    }
)
LONGEST_POLL = 10.0
# The models that the service runs itself; each of the others has rules of its own.
STEPPED = ("runware:100@", "runware:101@", "civitai:")
STEP, SHORTEST, LONGEST = 64, 128, 2048


class RunwareConfig(ImageConfig):
    """Where Runware is, and what is asked for where a call does not say."""

    base_url: str = Field(
        default="https://api.runware.ai/v1", description="Address of the service's interface."
    )
    steps: Count | None = Field(
        default=None, ge=1, le=100, description="Steps of the model where a call does not say."
    )
    cfg_scale: Factor | None = Field(
        default=None, ge=0, le=50, description="How close to the prompt where a call does not say."
    )
    delivery: Literal["sync", "async"] = Field(
        default="sync",
        description="Whether one answer is waited for (sync), or asked for again and again "
        "(async), for models that take long.",
    )
    poll_interval: Seconds = Field(
        default=1.0, description="Seconds until a result is asked for; each time a half more."
    )


class RunwareImages(RemoteImages[RunwareConfig]):
    """
    Pictures by tasks of type ``imageInference``.

    ``quality`` is the service's ``outputQuality``, 20 to 99; ``steps``, ``CFGScale`` and the like
    go into ``extra``. What pictures cost the service says.
    """

    batch = 20

    async def check_health(self) -> None:
        """Ask for the account's details, which costs nothing."""
        task = {
            "taskType": "accountManagement",
            "taskUUID": str(uuid.uuid4()),
            "operation": "getDetails",
        }
        answer = await self._sent(task, repeatable=True)
        for error in as_objects(answer.get("errors")):
            raise runware_error(error)

    def _check(self, request: ImageRequest) -> None:
        if taken := OWN_FIELDS & request.extra.keys():
            raise InvalidRequestError(
                f"extra holds {', '.join(sorted(taken))}, which have options of their own or "
                "change the form of the answer. Leave them out."
            )
        quality = request.quality
        if quality is not None and not (quality.isascii() and quality.isdigit()):
            raise InvalidRequestError(
                f"There is no quality {quality!r}: Runware's is a number from 20 to 99."
            )
        if quality is not None and not 20 <= int(quality) <= 99:
            raise InvalidRequestError(f"The quality is to be {quality}, and can be 20 to 99.")
        if request.size is None:
            return
        size = parse_size(request.size)
        if request.model.startswith(STEPPED) and any(
            side % STEP or not SHORTEST <= side <= LONGEST for side in size
        ):
            raise InvalidRequestError(
                f"{request.model} has no size {request.size!r}: width and height must be "
                f"multiples of {STEP} from {SHORTEST} to {LONGEST}.",
                context={"size": request.size},
            )

    async def _ask(self, request: ImageRequest, begin: int, count: int) -> Outcome:
        config = self.config
        width, height = parse_size(request.size) if request.size else (None, None)
        task = {
            "taskType": "imageInference",
            "taskUUID": str(uuid.uuid4()),
            "outputType": "base64Data",
            "includeCost": True,
            "deliveryMethod": config.delivery,
            "model": request.model,
            "positivePrompt": request.prompt,
            "negativePrompt": request.negative_prompt,
            "width": width,
            "height": height,
            "numberResults": count,
            "outputFormat": FORMATS[request.format] if request.format else None,
            "outputQuality": int(request.quality) if request.quality else None,
            # Each picture of a task has the seed after the one before's.
            "seed": None if request.seed is None else request.seed + begin,
            "steps": config.steps,
            "CFGScale": config.cfg_scale,
            **request.extra,
        }
        collected = _Collected(self, request, count)
        collected.take(
            await self._sent({name: value for name, value in task.items() if value is not None})
        )
        if not collected.is_complete:
            await self._poll(str(task["taskUUID"]), collected)
        return collected.outcome

    async def _poll(self, task: str, collected: _Collected) -> None:
        """Ask for what is not there yet until it is; what came before a failure stays."""
        config = self.config
        wait = config.poll_interval
        try:
            async with asyncio.timeout(config.request_timeout):
                while not collected.is_complete:
                    await asyncio.sleep(wait)
                    wait = min(wait * 1.5, max(LONGEST_POLL, config.poll_interval))
                    asked = {"taskType": "getResponse", "taskUUID": task}
                    collected.take(await self._sent(asked, repeatable=True))
        except ServiceError as error:
            error.context.setdefault("taskUUID", task)
            collected.outcome.failure = error
        except TimeoutError:
            collected.outcome.failure = ServiceTimeoutError(
                f"The pictures were not there after {config.request_timeout:g} s "
                "(request_timeout). Allow more; the service goes on with them.",
                context={"taskUUID": task},
            )

    async def _sent(
        self, task: Mapping[str, Any], *, repeatable: bool = False
    ) -> Mapping[str, Any]:
        try:
            return as_object(await self._service.json("POST", "", [task], repeatable=repeatable))
        except _PartlyError as error:
            return error.answer

    def _explain(self, answer: Answer) -> ServiceError:
        found = answer.object()
        errors = as_objects(found.get("errors")) or [as_object(found.get("error"))]
        if found.get("data"):
            return _PartlyError(found)
        return runware_error(errors[0], answer.status, wait=retry_after(answer.headers))


class _PartlyError(ServiceError):
    """An answer whose status is not a good one and which has results nevertheless."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__("Some of it was done.")
        self.answer = answer


class _Collected:
    """What has come of one task, by one answer or several."""

    def __init__(self, provider: RunwareImages, request: ImageRequest, count: int) -> None:
        self.outcome = Outcome()
        self.is_complete = False
        self._provider = provider
        self._request = request
        self._count = count
        self._seen: set[object] = set()

    def take(self, answer: Mapping[str, Any]) -> None:
        """Take from an answer what was not in those before."""
        pending = False
        errors = [*as_objects(answer.get("errors")), *as_objects(answer.get("error"))]
        for item in as_objects(answer.get("data")):
            if item.get("status") == "error":
                errors.append(as_object(item.get("error")) or item)
            elif item.get("imageBase64Data") or item.get("imageUUID"):
                self._take_picture(item)
            else:
                pending = True  # an acknowledgement, or a result that is being made
        if errors:
            self.outcome.failure = runware_error(errors[0])
        done = len(self._seen) + len(errors) >= self._count
        waits = pending or self._provider.config.delivery == "async"
        self.is_complete = done or not waits or (bool(errors) and not pending)

    def _take_picture(self, item: Mapping[str, Any]) -> None:
        key = item.get("imageUUID") or len(self._seen)
        if key in self._seen:
            return
        self._seen.add(key)
        cost, seed = item.get("cost"), item.get("seed")
        known = isinstance(cost, (int, float)) and math.isfinite(cost)
        try:
            image = self._provider._image(
                item.get("imageBase64Data"),
                self._request,
                cost=Decimal(str(cost)) if known else None,
                seed=seed if isinstance(seed, int) else None,
            )
        except ServiceError as error:
            self.outcome.failure = error
        else:
            self.outcome.images.append(image)

"""Runware on loopback."""

from __future__ import annotations

import base64
import itertools
import json
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from .base import Double
from .pictures import picture

__all__ = ["RunwareDouble"]

_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "CFGScale": (int, float),
    "deliveryMethod": str,
    "height": int,
    "includeCost": bool,
    "model": str,
    "negativePrompt": str,
    "numberResults": int,
    "outputFormat": str,
    "outputQuality": int,
    "outputType": str,
    "positivePrompt": str,
    "scheduler": str,
    "seed": int,
    "steps": int,
    "taskType": str,
    "taskUUID": str,
    "width": int,
}
_NEEDED = ("model", "positivePrompt", "width", "height")
_VALUES: Mapping[str, frozenset[str]] = {
    "deliveryMethod": frozenset({"sync", "async"}),
    "outputFormat": frozenset({"JPG", "PNG", "WEBP"}),
    "outputType": frozenset({"URL", "base64Data", "dataURI"}),
}
_RANGES: Mapping[str, tuple[float, float]] = {
    "CFGScale": (0, 50),
    "numberResults": (1, 20),
    "outputQuality": (20, 99),
    "seed": (0, 2**63 - 1),
    "steps": (1, 100),
}
_KINDS = {"JPG": "jpeg", "PNG": "png", "WEBP": "webp"}


@dataclass
class _Job:
    """An asynchronous task: what it gives, and after how many questions all of it is there."""

    results: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    errors: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    asked: int = 0


class RunwareDouble(Double):
    """
    ``POST /v1`` with ``imageInference``, ``getResponse`` and ``accountManagement``, for one key.

    An unknown field, one of another type, a value out of its range, a task identifier that is no
    UUID of version 4 or was used before is refused as the service does. A prompt with the word
    ``forbidden`` is. Answers have results and errors side by side. Pictures of a seed are always
    the same, and each of a task has the seed after the one before's.
    """

    price = 0.0013
    """What one picture costs."""
    model = "runware:101@1"
    """The model there is."""

    def __init__(self, *, key: str = "runware-double-key") -> None:
        super().__init__()
        self.key = key
        """The key that is accepted."""
        self.questions = 2
        """How often an asynchronous task is asked for until all of it is there."""
        self._broken: deque[tuple[int, str]] = deque()
        self._used: set[str] = set()
        self._jobs: dict[str, _Job] = {}
        self._seeds = itertools.count(1000)

    def lose(self, number: int, code: str = "inferenceError") -> None:
        """Let the last ``number`` pictures of the next task fail with ``code``."""
        self._broken.append((number, code))

    def routes(self) -> list[web.RouteDef]:
        """Return the one route."""
        return [web.post("/v1", self._post)]

    @property
    def base_url(self) -> str:
        """The setting ``base_url`` of a provider of it."""
        return f"{self.url}/v1"

    async def _post(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            told = "Invalid API key. Get one at https://my.runware.ai/signup"
            error = _error({}, "invalidApiKey", told, "apiKey") | {"taskType": "authentication"}
            return _answered([], [error], 401)
        try:
            tasks: Any = json.loads(await request.read())
        except ValueError:
            tasks = None
        if not isinstance(tasks, list) or not tasks:
            return _answered([], [_error({}, "invalidJSON", "Send an array of tasks.")], 400)
        data: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for task in cast("list[dict[str, Any]]", tasks):
            results, faults = self._do(task)
            data += results
            errors += faults
        return _answered(data, errors, 200 if data or not errors else 400)

    def _do(self, task: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        identifier = str(task.get("taskUUID"))
        match task.get("taskType"):
            case "getResponse":
                return self._asked_for(task)
            case "imageInference" | "accountManagement" as kind:
                if not _is_uuid(identifier):
                    return [], [_error(task, "invalidTaskUUID", "No UUID v4.", "taskUUID")]
                if identifier in self._used:
                    return [], [_error(task, "duplicateTaskUUID", "Used before.", "taskUUID")]
                self._used.add(identifier)
                return self._infer(task) if kind == "imageInference" else _details(task)
            case _:
                return [], [_error(task, "invalidTaskType", "No such task.", "taskType")]

    def _infer(self, task: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        if (fault := self._fault(task)) is not None:
            return [], [fault]
        count = task.get("numberResults", 1)
        lost, code = self._broken.popleft() if self._broken else (0, "")
        first = task.get("seed", next(self._seeds))
        results = [self._result(task, first + number) for number in range(count - lost)]
        errors = [_error(task, code, "It could not be made.") for _ in range(lost)]
        if task.get("deliveryMethod", "sync") == "sync":
            return results, errors
        self._jobs[task["taskUUID"]] = _Job(results, errors)
        return [{"taskType": task["taskType"], "taskUUID": task["taskUUID"]}], []

    def _fault(self, task: dict[str, Any]) -> dict[str, Any] | None:
        for name in _NEEDED:
            if name not in task:
                return _error(task, f"missing{name[0].upper()}{name[1:]}", "It is needed.", name)
        for name, value in task.items():
            wanted = _FIELDS.get(name)
            low, high = _RANGES.get(name, (0, 0))
            if wanted is None:
                return _error(task, "unsupportedParameter", f"Unknown: {name}", name)
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                return _error(task, f"invalid{name[0].upper()}{name[1:]}", "Wrong type.", name)
            if value not in _VALUES.get(name, {value}) or (high and not low <= value <= high):
                return _error(task, f"invalid{name[0].upper()}{name[1:]}", "Out of range.", name)
        for name in ("width", "height"):
            if task[name] % 64 or not 128 <= task[name] <= 2048:
                told = "A multiple of 64 from 128 to 2048."
                return _error(task, f"invalid{name.capitalize()}", told, name)
        if task["model"] != self.model:
            return _error(task, "invalidModel", "There is no such model.", "model")
        if "forbidden" in task["positivePrompt"]:
            return _error(task, "contentPolicyViolation", "That is not drawn.", "positivePrompt")
        return None

    def _result(self, task: dict[str, Any], seed: int) -> dict[str, Any]:
        kind = _KINDS[task.get("outputFormat", "JPG")]
        data = picture(kind, task["width"], task["height"], shade=seed % 256)
        result: dict[str, Any] = {
            "taskType": "imageInference",
            "taskUUID": task["taskUUID"],
            "imageUUID": str(uuid.uuid4()),
            "seed": seed,
            "NSFWContent": False,
        }
        if task.get("outputType") == "base64Data":
            result["imageBase64Data"] = base64.b64encode(data).decode()
        else:
            result["imageURL"] = f"{self.url}/{result['imageUUID']}"
        if task.get("includeCost"):
            result["cost"] = self.price
        return result

    def _asked_for(self, task: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        job = self._jobs.get(str(task.get("taskUUID")))
        if job is None:
            return [], [_error(task, "taskFailedOrNotFound", "There is no such task.")]
        job.asked += 1
        there = len(job.results) * job.asked // self.questions
        base = {"taskType": "imageInference", "taskUUID": task["taskUUID"]}
        data = [{**result, "status": "success"} for result in job.results[:there]]
        data += [{**base, "status": "processing"} for _ in job.results[there:]]
        return data, job.errors if job.asked >= self.questions else []


def _details(task: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if task.get("operation") != "getDetails":
        return [], [_error(task, "invalidOperation", "No such operation.", "operation")]
    names = ("taskType", "taskUUID", "operation")
    return [{**{name: task[name] for name in names}, "balance": 10.0}], []


def _is_uuid(text: str) -> bool:
    try:
        return uuid.UUID(text).version == 4
    except ValueError:
        return False


def _error(
    task: Mapping[str, Any], code: str, message: str, parameter: str | None = None
) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if parameter is not None:
        error["parameter"] = parameter
    return error | {name: task[name] for name in ("taskType", "taskUUID") if name in task}


def _answered(
    data: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]], status: int
) -> web.Response:
    body: dict[str, Any] = {}
    if data:
        body["data"] = data
    if errors:
        body["errors"] = errors
    return web.json_response(body or {"data": []}, status=status)

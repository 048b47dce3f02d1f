"""Images of OpenAI, and of every service that took over its interface."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from ...web.errors import AccessDeniedError, BadResponseError, InvalidRequestError, ServiceError
from ...web.openai import explain
from ...web.transport import Answer
from .config import ImageConfig
from .remote import Outcome, RemoteImages, as_object, as_objects
from .request import ImageRequest, parse_size

__all__ = ["OpenAIImageConfig", "OpenAIImages"]

OWN_HOST = "api.openai.com"
LONGEST_PROMPT = 32_000
AUTO = "auto"
OWN_FIELDS = frozenset(
    {"model", "n", "output_format", "partial_images", "prompt", "quality", "size", "stream"}
)
_SNAPSHOT = re.compile(r"-\d{4}-\d\d-\d\d$")


class OpenAIImageConfig(ImageConfig):
    """Where OpenAI's interface is, and what is asked for where a call does not say."""

    base_url: str = Field(
        default=f"https://{OWN_HOST}/v1",
        description="Address of the service, up to the paths of its interface.",
    )
    organization: str | None = Field(
        default=None, description="The organization that pays, where a key has several."
    )
    project: str | None = Field(
        default=None, description="The project that pays, where a key has several."
    )


class _Known(NamedTuple):
    """What is known of a model: sizes by name, or by rule, and qualities."""

    sizes: tuple[str, ...] = ()
    smallest: int = 0
    qualities: tuple[str, ...] = ("low", "medium", "high", AUTO)


_FIXED = _Known(("1024x1024", "1536x1024", "1024x1536", AUTO))
# The reference of POST /images/generations; of models that are not here only the form is checked.
_MODELS: Mapping[str, _Known] = {
    "gpt-image-1": _FIXED,
    "gpt-image-1-mini": _FIXED,
    "gpt-image-1.5": _FIXED,
    "gpt-image-2": _Known(smallest=655_360),
    "gpt-image-2.5-flare": _Known(qualities=("low", "medium", "high", "xhigh", "max", AUTO)),
    "gpt-image-2.5-sunburst": _Known(qualities=("low", "medium", "high", "xhigh", "max", AUTO)),
}
STEP = 16
LONGEST_EDGE = 3840
LARGEST = 3840 * 2160
WIDEST = 3


class OpenAIImages(RemoteImages[OpenAIImageConfig]):
    """
    Pictures by ``POST {base_url}/images/generations``.

    Only what a caller or the settings say is sent. A size or quality that the model is known not
    to have is refused before; of a model that is not known only the form of the size is checked.
    """

    batch = 10

    async def check_health(self) -> None:
        """List the models, which costs nothing; a key that may not list them will do."""
        try:
            await self._service.json("GET", "/models")
        except AccessDeniedError:
            return

    def _check(self, request: ImageRequest) -> None:
        if request.negative_prompt is not None:
            raise self._unsupported("negative-prompt")
        if request.seed is not None:
            raise self._unsupported("seed")
        if taken := OWN_FIELDS & request.extra.keys():
            raise InvalidRequestError(
                f"extra holds {', '.join(sorted(taken))}, which have options of their own or "
                "change the form of the answer. Leave them out."
            )
        known = _MODELS.get(_SNAPSHOT.sub("", request.model))
        if request.size is not None and request.size != AUTO:
            _check_size(request.size, request.model, known)
        if known is None:
            return
        if len(request.prompt) > LONGEST_PROMPT:
            raise InvalidRequestError(
                f"The prompt has {len(request.prompt)} characters, and {request.model} takes "
                f"{LONGEST_PROMPT}. Say it shorter."
            )
        if request.quality is not None and request.quality not in known.qualities:
            raise InvalidRequestError(
                f"{request.model} has no quality {request.quality!r}. Choose one of "
                f"{', '.join(known.qualities)}."
            )

    async def _ask(self, request: ImageRequest, begin: int, count: int) -> Outcome:
        body = {
            "model": request.model,
            "prompt": request.prompt,
            "n": count if count > 1 else None,
            "size": request.size,
            "quality": request.quality,
            "output_format": request.format,
            **request.extra,
        }
        answer = as_object(
            await self._service.json(
                "POST",
                "/images/generations",
                {name: value for name, value in body.items() if value is not None},
            )
        )
        items = as_objects(answer.get("data"))
        cost = self._cost_of_one(request, as_object(answer.get("usage")), len(items))
        outcome = Outcome()
        for item in items:
            try:
                image = self._image(
                    item.get("b64_json"),
                    request,
                    quality=answer.get("quality"),
                    cost=cost,
                    revised_prompt=item.get("revised_prompt"),
                )
            except BadResponseError as error:
                outcome.failure = _address_instead(item) or error
            else:
                outcome.images.append(image)
        return outcome

    def _cost_of_one(
        self, request: ImageRequest, usage: Mapping[str, Any], count: int
    ) -> Decimal | None:
        """Return what one of the pictures cost by the tokens that all of them took."""
        price = self.config.price(request.model)
        read, written = usage.get("input_tokens"), usage.get("output_tokens")
        if price is None or not count or not isinstance(read, int) or not isinstance(written, int):
            return None
        cost = price.of_tokens(read, written)
        return None if cost is None else cost / count

    def _explain(self, answer: Answer) -> ServiceError:
        return explain(answer)

    def _headers(self) -> Mapping[str, str]:
        config = self.config
        # Another server than OpenAI's may want no key.
        needs_key = config.api_key is not None or urlsplit(config.base_url).hostname == OWN_HOST
        given = {
            **(super()._headers() if needs_key else {}),
            "OpenAI-Organization": config.organization,
            "OpenAI-Project": config.project,
        }
        return {name: value for name, value in given.items() if value}


def _address_instead(item: Mapping[str, Any]) -> BadResponseError | None:
    if not item.get("url"):
        return None
    return BadResponseError(
        "The service sent the address of a picture in its place. If it takes response_format, "
        "give extra={'response_format': 'b64_json'}."
    )


def _check_size(size: str, model: str, known: _Known | None) -> None:
    width, height = parse_size(size)
    if known is None:
        return
    if known.sizes:
        if size not in known.sizes:
            raise InvalidRequestError(
                f"{model} has no size {size!r}. Choose one of {', '.join(known.sizes)}.",
                context={"size": size, "sizes": list(known.sizes)},
            )
        return
    long, short = max(width, height), min(width, height)
    faults = {
        f"width and height must be multiples of {STEP}": bool(width % STEP or height % STEP),
        f"no side may be longer than {LONGEST_EDGE}": long > LONGEST_EDGE,
        f"no side may be more than {WIDEST} times the other": long > WIDEST * short,
        f"it may have at most {LARGEST} pixels": width * height > LARGEST,
        f"it must have at least {known.smallest} pixels": width * height < known.smallest,
    }
    if any(faults.values()):
        told = "; ".join(fault for fault, there in faults.items() if there)
        raise InvalidRequestError(f"{model} has no size {size!r}: {told}.", context={"size": size})

"""What all services of images have in common: checking, batches, what came, files and costs."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Unpack, cast

from ...registry.errors import InvalidStateError
from ...registry.provider import operation
from ...registry.redaction import remember
from ...web.errors import AuthenticationError, BadResponseError, ServiceError
from ...web.limit import Limiter
from ...web.transport import Answer, Transport
from ..files import write_file
from .base import GeneratedImage, ImageOptions, ImageProvider
from .config import ImageConfig
from .errors import ImageNotWrittenError, IncompleteImagesError
from .header import read_header
from .request import ImageRequest, targets_of

__all__ = ["Outcome", "RemoteImages", "as_object", "as_objects"]

logger = logging.getLogger(__name__)

ImageConfigT = TypeVar("ImageConfigT", bound=ImageConfig)


@dataclass(slots=True)
class Outcome:
    """What became of one request: the pictures that came, and why others did not."""

    images: list[GeneratedImage] = field(default_factory=list[GeneratedImage])
    failure: ServiceError | None = None


def as_object(value: Any) -> Mapping[str, Any]:
    """Return a JSON object; an empty one for anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def as_objects(value: Any) -> Sequence[Mapping[str, Any]]:
    """Return a JSON array's items as objects; none for anything else."""
    return [as_object(item) for item in cast("list[Any]", value)] if isinstance(value, list) else []


class RemoteImages(ImageProvider[ImageConfigT]):
    """
    A service of images on the web.

    A type says what the service takes (:meth:`_check`) and how it is asked (:meth:`_ask`).
    """

    batch: ClassVar[int]
    """Pictures that the service makes for one request at most."""

    def __init__(self, config: ImageConfigT) -> None:
        super().__init__(config)
        self._transport: Transport | None = None
        self._limiter = Limiter(None, extra="media")

    async def _connect(self) -> None:
        remember(self.config)
        self._limiter = Limiter(self.config.rate_limit, extra="media")
        self._transport = Transport(
            self.config, headers=self._headers, explain=self._explain, extra="media"
        )

    async def _close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    @operation
    async def generate(
        self,
        prompt: str,
        *,
        count: int = 1,
        path: str | Path | None = None,
        **options: Unpack[ImageOptions],
    ) -> Sequence[GeneratedImage]:
        """
        Make pictures; see :meth:`ImageProvider.generate`.

        Raises:
            IncompleteImagesError: Some came, and some did not; it has those that came.
            ImageNotWrittenError: They came, and a file cannot be written; it has them all.
        """
        request = ImageRequest.of(prompt, path, options, self.config)
        self._check(request)
        targets = targets_of(path, count)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._outcome(request, begin, min(self.batch, count - begin)))
                for begin in range(0, count, self.batch)
            ]
        outcomes = [task.result() for task in tasks]
        images = [image for outcome in outcomes for image in outcome.images][:count]
        failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
        if failures and not images:
            raise failures[0]
        images = await self._written(images, targets)
        if failures:
            kept = "and are written" if targets else "and are in this error's images"
            raise IncompleteImagesError(
                f"{len(images)} of {count} pictures came {kept}; the others did not: {failures[0]}",
                context={"failures": [failure.to_dict() for failure in failures]},
                images=images,
            ) from failures[0]
        return images

    @operation
    def estimate_cost(self, *, count: int = 1, **options: Unpack[ImageOptions]) -> Decimal | None:
        """Return what so many pictures will cost by the settings' ``prices``; asks nobody."""
        request = ImageRequest.of("?", None, options, self.config)
        self._check(request)
        targets_of(None, count)
        price = self.config.price(request.model)
        one = price.of_image(request.size, request.quality) if price else None
        return None if one is None else one * count

    # -- for the types -------------------------------------------------------------------

    @abstractmethod
    def _check(self, request: ImageRequest) -> None:
        """
        Refuse what the service or the model does not have.

        Raises:
            InvalidRequestError: What, and what there is instead.
            UnsupportedCapabilityError: The service has nothing of the kind.
        """

    @abstractmethod
    async def _ask(self, request: ImageRequest, begin: int, count: int) -> Outcome:
        """
        Ask for some pictures, by one request.

        Args:
            request: For what.
            begin: How many pictures of the call were asked for by other requests.
            count: How many, at most :attr:`batch`.

        Raises:
            ServiceError: None came.
        """

    @abstractmethod
    def _explain(self, answer: Answer) -> ServiceError:
        """Make the error of an answer whose status is not a good one."""

    def _headers(self) -> Mapping[str, str]:
        key = self.config.api_key
        if key is None or not key.get_secret_value():
            raise AuthenticationError(
                "There is no key for the service. Set api_key, or the well-known variable of the "
                "service and environment discovery."
            )
        return {"Authorization": f"Bearer {key.get_secret_value()}"}

    @property
    def _service(self) -> Transport:
        """The way to the service."""
        if self._transport is None:
            raise InvalidStateError(
                f"This {type(self).__name__} is not connected: use it with `async with`, or take "
                "it from a container."
            )
        return self._transport

    def _image(
        self,
        encoded: object,
        request: ImageRequest,
        *,
        quality: str | None = None,
        cost: Decimal | None = None,
        revised_prompt: str | None = None,
        seed: int | None = None,
    ) -> GeneratedImage:
        """
        Make a picture of what a service sent as base64; what it is, its own bytes say.

        Args:
            encoded: What was sent.
            request: What it was asked for.
            quality: What the service says of it.
            cost: What the service says it cost; else it is what ``prices`` say.
            revised_prompt: What the service made of the prompt.
            seed: What makes the same picture again.

        Raises:
            BadResponseError: It is no picture.
        """
        try:
            if not isinstance(encoded, str):
                raise ValueError("there is no base64 text")
            data = base64.b64decode(encoded, validate=True)
            header = read_header(data)
        except (ValueError, binascii.Error) as error:
            raise BadResponseError(
                f"The service sent something that is no picture: {error}. Try again."
            ) from None
        if request.format is not None and header.format != request.format:
            logger.warning(
                "The service sent %s where %s was asked for", header.format, request.format
            )
        price = self.config.price(request.model)
        if cost is None and price is not None:
            size = f"{header.width}x{header.height}"
            cost = price.of_image(size, quality or request.quality)
        return GeneratedImage(
            data=data,
            media_type=f"image/{header.format}",
            model=request.model,
            width=header.width,
            height=header.height,
            cost=cost,
            revised_prompt=revised_prompt,
            seed=seed,
        )

    # -- the whole call ------------------------------------------------------------------

    async def _outcome(self, request: ImageRequest, begin: int, count: int) -> Outcome:
        await self._limiter.wait()
        try:
            outcome = await self._ask(request, begin, count)
        except ServiceError as error:
            return Outcome(failure=error)
        if len(outcome.images) < count and outcome.failure is None:
            outcome.failure = BadResponseError(
                f"The service sent {len(outcome.images)} of the {count} pictures it was asked for."
            )
        return outcome

    async def _written(
        self, images: list[GeneratedImage], targets: Sequence[Path]
    ) -> list[GeneratedImage]:
        try:
            for number, target in enumerate(targets[: len(images)]):
                image = images[number]
                images[number] = replace(image, path=await write_file(target, image.data))
        except OSError as error:
            raise ImageNotWrittenError(
                f"The pictures came and cannot be written: {error}. They are in this error's "
                "images.",
                images=images,
            ) from error
        return images

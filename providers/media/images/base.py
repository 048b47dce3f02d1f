"""The image interface: pictures from a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, TypedDict, Unpack

from ...registry.errors import UnsupportedCapabilityError
from ...registry.provider import ConfigT, Provider, operation

__all__ = ["GeneratedImage", "ImageOptions", "ImageProvider"]


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """
    A picture that was made.

    Args:
        data: The file's bytes.
        media_type: ``image/png``, ``image/jpeg`` or ``image/webp``.
        model: The model that made it.
        width: In pixels.
        height: In pixels.
        cost: What it cost, None where that is not known; in the service's currency.
        revised_prompt: What the service made of the prompt, where it tells.
        path: The file it was written to, if it was.
        seed: What makes the same picture again, where the service tells.
    """

    data: bytes = field(repr=False)
    media_type: str
    model: str
    width: int
    height: int
    cost: Decimal | None = None
    revised_prompt: str | None = None
    path: Path | None = None
    seed: int | None = None


class ImageOptions(TypedDict, total=False):
    """
    What a request may say beside the prompt. What is not given is the provider's own setting, and
    what that does not say either is not sent.

    - ``model``: its name at the service.
    - ``size``: ``WIDTHxHEIGHT`` in pixels, ``1024x1024`` say.
    - ``format``: ``png``, ``jpeg`` or ``webp``.
    - ``quality``: in the service's own words.
    - ``negative_prompt``: what should not be seen; capability ``negative-prompt``.
    - ``seed``: the same picture again; capability ``seed``.
    - ``extra``: fields of the service's own, sent as they are.
    """

    model: str
    size: str
    format: str
    quality: str
    negative_prompt: str
    seed: int
    extra: Mapping[str, Any]


class ImageProvider(Provider[ConfigT]):
    """
    A service that makes pictures.

    Errors are those of :mod:`purveyor.providers.web.errors`, whatever the service.
    """

    family: ClassVar[str] = "images"

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
        Make pictures.

        What the model cannot do is refused before the service is asked.

        Args:
            prompt: What is to be seen.
            count: How many, of the same prompt; more than the service makes at once are asked for
                in several requests.
            path: The file to write to, whole or not at all; one that is there is replaced. With
                ``count`` above 1 the name gets ``-1``, ``-2`` ... before its suffix. Without a
                format among the options the suffix says it.
            options: See :class:`ImageOptions`.

        Returns:
            ``count`` of them.

        Raises:
            InvalidRequestError: A size, format or the like the model does not have.
            ContentRefusedError: The service refuses the prompt or what it made.
            IncompleteImagesError: Some came, and some did not; it has those that came, and the
                reason as its cause.
            ServiceError: Anything else the service, the key or the network is to blame for.
            OSError: The file cannot be written: told before the service is asked, where one can
                tell; otherwise an ImageNotWrittenError, which has the pictures.
        """
        raise NotImplementedError

    @operation
    def estimate_cost(self, *, count: int = 1, **options: Unpack[ImageOptions]) -> Decimal | None:
        """Return what so many pictures will cost, None where no price is known; asks nobody."""
        raise NotImplementedError

    def _unsupported(self, capability: str) -> UnsupportedCapabilityError:
        return UnsupportedCapabilityError(
            f"{type(self).__name__} does not have the capability {capability!r}. "
            f"Choose a provider that has it: purveyor providers find {capability}",
            context={"capability": capability},
        )

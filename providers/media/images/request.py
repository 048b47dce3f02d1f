"""What is asked for: checked as far as that goes without the service, and completed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ...web.errors import InvalidRequestError
from ..files import check_target
from .base import ImageOptions
from .config import Format, ImageConfig

__all__ = ["ImageRequest", "parse_size", "targets_of"]

FORMATS: tuple[str, ...] = get_args(Format)
_SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """
    What a provider type is asked. What is None was said by nobody, and is not to be sent.

    ``size`` is as the caller wrote it; see :func:`parse_size`.
    """

    prompt: str
    model: str
    size: str | None = None
    format: str | None = None
    quality: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(
        cls, prompt: str, path: str | Path | None, options: ImageOptions, config: ImageConfig
    ) -> ImageRequest:
        """
        Return the request a call makes.

        Raises:
            InvalidRequestError: It says nothing, names no model, or contradicts itself.
        """
        if unknown := options.keys() - ImageOptions.__annotations__.keys():
            raise TypeError(f"There is no option {', '.join(sorted(unknown))}.")
        if not prompt.strip():
            raise InvalidRequestError("The prompt is empty. Say what is to be seen.")
        model = options.get("model") or config.model
        if not model:
            raise InvalidRequestError(
                "No model is named. Name one with the call, or set the provider's model."
            )
        extra = options.get("extra") or {}
        try:
            json.dumps(extra)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"extra cannot be sent as JSON: {error}.") from None
        wanted = options.get("format")
        if wanted is not None and wanted not in FORMATS:
            raise InvalidRequestError(
                f"There is no format {wanted!r}. Choose one of {', '.join(FORMATS)}."
            )
        return cls(
            prompt=prompt,
            model=model,
            size=options.get("size") or config.size,
            format=_format_of(path, wanted) or config.format,
            quality=options.get("quality") or config.quality,
            negative_prompt=options.get("negative_prompt"),
            seed=options.get("seed"),
            extra=extra,
        )


def parse_size(size: str) -> tuple[int, int]:
    """
    Return width and height in pixels.

    Raises:
        InvalidRequestError: It is not of the form ``WIDTHxHEIGHT``.
    """
    if (found := _SIZE.fullmatch(size)) is None:
        raise InvalidRequestError(
            f"The size {size!r} is none: say WIDTHxHEIGHT in pixels, such as 1024x1024.",
            context={"size": size},
        )
    return int(found[1]), int(found[2])


def targets_of(path: str | Path | None, count: int) -> Sequence[Path]:
    """
    Return the files that so many pictures go to; none where no path is given.

    Raises:
        InvalidRequestError: The count is none.
        OSError: No file can be made there.
    """
    if count < 1:
        raise InvalidRequestError(f"{count} pictures cannot be made. Ask for one or more.")
    if path is None:
        return ()
    target = check_target(path)
    if count == 1:
        return (target,)
    return tuple(
        check_target(target.with_name(f"{target.stem}-{number}{target.suffix}"))
        for number in range(1, count + 1)
    )


def _format_of(path: str | Path | None, wanted: str | None) -> str | None:
    if path is None:
        return wanted
    suffix = Path(path).suffix
    told = _SUFFIXES.get(suffix.lower())
    if wanted is None and suffix and told is None:
        raise InvalidRequestError(
            f"{suffix!r} is the name of no format. Choose a path that ends with one of "
            f"{', '.join(_SUFFIXES)}, or give format=..."
        )
    if wanted is not None and told is not None and told != wanted:
        raise InvalidRequestError(
            f"The format is to be {wanted} and the path ends with {suffix!r}. Change one of them."
        )
    return wanted or told

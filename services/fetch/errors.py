"""What goes wrong in a fetch that is no source's own error."""

from __future__ import annotations

from collections.abc import Mapping

from ...providers.registry import RegistryError

__all__ = ["FetchError"]


class FetchError(RegistryError):
    """
    A fetch that cannot be done as asked, or failed; the workspace is as it was.

    ``context["failures"]`` names what failed: source, item, code and reason of each.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "FETCH_FAILED",
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(code, message, None, context)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.message, self.code, self.context))


def _rebuild(message: str, code: str, context: dict[str, object]) -> FetchError:
    return FetchError(message, code=code, context=context)

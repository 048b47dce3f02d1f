"""
Conformance kits: what every provider type of a family must do, as tests to subclass.

They need pytest and no plugin. See ``docs/conformance.md``.
"""

from __future__ import annotations

import pytest

# A failed assert in the kit shows its values too. This must come before the modules are imported.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.ai_{rules}"
        for rules in ("asking", "capabilities", "case", "faults", "robustness")
    ),
    *(
        f"{__name__}.storage_{rules}"
        for rules in ("behaviour", "capabilities", "copies", "keys", "robustness")
    ),
    *(
        f"{__name__}.data_sources_{rules}"
        for rules in ("case", "fetching", "looking", "robustness")
    ),
    *(f"{__name__}.images_{rules}" for rules in ("case", "making", "robustness")),
    *(f"{__name__}.{rules}" for rules in ("case", "media_case", "audio_rules", "flashcards_rules")),
)

from .ai import AIConformance  # noqa: E402 - see above
from .audio import AudioConformance  # noqa: E402 - see above
from .data_sources import DataSourceConformance  # noqa: E402 - see above
from .flashcards import FlashcardConformance  # noqa: E402 - see above
from .images import ImageConformance  # noqa: E402 - see above
from .storage import StorageConformance  # noqa: E402 - see above

__all__ = [
    "AIConformance",
    "AudioConformance",
    "DataSourceConformance",
    "FlashcardConformance",
    "ImageConformance",
    "StorageConformance",
]

"""
Conformance kits: what every provider type of a family must do, as tests to subclass.

They need pytest and no plugin. See ``docs/conformance.md``.
"""

from __future__ import annotations

import pytest

# A failed assert in the kit shows its values too. This must come before the modules are imported.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.storage_{rules}"
        for rules in ("behaviour", "capabilities", "copies", "keys", "robustness")
    ),
    *(
        f"{__name__}.data_sources_{rules}"
        for rules in ("case", "fetching", "looking", "robustness")
    ),
    f"{__name__}.media_case",
    f"{__name__}.audio_rules",
    f"{__name__}.flashcards_rules",
)

from .audio import AudioConformance  # noqa: E402 - see above
from .data_sources import DataSourceConformance  # noqa: E402 - see above
from .flashcards import FlashcardConformance  # noqa: E402 - see above
from .storage import StorageConformance  # noqa: E402 - see above

__all__ = [
    "AudioConformance",
    "DataSourceConformance",
    "FlashcardConformance",
    "StorageConformance",
]

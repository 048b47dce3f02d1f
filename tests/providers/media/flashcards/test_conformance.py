"""Anki keeps the rules of every collection, whatever the version of its add-on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from purveyor.providers.media.flashcards.anki import Anki, AnkiConfig
from purveyor.testing.conformance import FlashcardConformance
from purveyor.testing.doubles import AnkiDouble

KEY = "conformance-key"


class TestAnki(FlashcardConformance):
    provider_class = Anki
    version: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def provider_config(self) -> Iterator[AnkiConfig]:
        with AnkiDouble(api_key=KEY, **self.version) as double:
            yield AnkiConfig.model_validate({"url": double.url, "api_key": KEY})


class TestAnkiBefore2024(TestAnki):
    version: ClassVar[dict[str, Any]] = {
        "tells_why": False,
        "all_or_nothing": False,
        "forgets_deck": True,
    }

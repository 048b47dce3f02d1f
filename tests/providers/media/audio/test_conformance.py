"""Forvo keeps the rules of every service of recordings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from purveyor.providers.media.audio.forvo import Forvo, ForvoConfig
from purveyor.testing.conformance import AudioConformance
from purveyor.testing.doubles import ForvoDouble, Spoken

KEY = "conformance-key"
HOLA = [
    Spoken(1, "hola", "es", "Spain", "f", "ana", votes=3, against=1),
    Spoken(2, "hola", "es", "Mexico", "m", "luis", votes=9, against=1),
    Spoken(3, "hola", "es", "Mexico", "f", "eva", votes=8),
]


class TestForvo(AudioConformance):
    provider_class = Forvo

    @pytest.fixture
    def provider_config(self) -> Iterator[ForvoConfig]:
        with ForvoDouble(KEY, HOLA) as double:
            yield ForvoConfig.model_validate({"base_url": double.url, "api_key": KEY})

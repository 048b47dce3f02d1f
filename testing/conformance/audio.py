"""The conformance kit of the audio family."""

from __future__ import annotations

from .audio_rules import AudioRules

__all__ = ["AudioConformance"]


class AudioConformance(AudioRules):
    """
    Everything a caller may rely on in a service of recordings, one test for each rule.

    Subclass it, name the class, and say how to configure one that works::

        class TestArchive(AudioConformance):
            provider_class = ArchiveAudio
            word, language = "hola", "es"

            @pytest.fixture
            def provider_config(self) -> ArchiveConfig:
                return ArchiveConfig(base_url=..., api_key="...")

    The attributes that may be set are those of :class:`.audio_rules.AudioRules` and
    :class:`.media_case.MediaCase`.
    """

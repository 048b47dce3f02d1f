"""The conformance kit of the flashcard family."""

from __future__ import annotations

from .flashcards_rules import FlashcardRules

__all__ = ["FlashcardConformance"]


class FlashcardConformance(FlashcardRules):
    """
    Everything a caller may rely on in a collection of flashcards, one test for each rule.

    Subclass it, name the class, and return the settings of a collection without notes::

        class TestCards(FlashcardConformance):
            provider_class = Cards
            note_type = "Basic"

            @pytest.fixture
            def provider_config(self) -> CardsConfig:
                return CardsConfig(base_url=...)

    The attributes that may be set are those of :class:`.flashcards_rules.FlashcardRules` and
    :class:`.media_case.MediaCase`.
    """

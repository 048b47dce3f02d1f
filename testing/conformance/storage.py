"""The conformance kit of the storage family."""

from __future__ import annotations

from .storage_behaviour import BehaviourRules
from .storage_capabilities import CapabilityRules
from .storage_copies import CopyRules
from .storage_keys import KeyRules
from .storage_robustness import RobustnessRules

__all__ = ["StorageConformance"]


class StorageConformance(BehaviourRules, CopyRules, KeyRules, CapabilityRules, RobustnessRules):
    """
    Everything a caller may rely on in a storage, one test for each rule.

    Subclass it, name the class, and say how to configure an empty storage::

        class TestMemoryStorage(StorageConformance):
            provider_class = MemoryStorage

            @pytest.fixture
            def storage_config(self) -> MemoryConfig:
                return MemoryConfig()

    The attributes that may be set are those of :class:`.storage_case.StorageCase`, and
    ``odd_keys``.
    """

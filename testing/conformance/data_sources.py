"""The conformance kit of the data source family."""

from __future__ import annotations

from .data_sources_fetching import FetchingRules
from .data_sources_looking import LookingRules
from .data_sources_robustness import RobustnessRules

__all__ = ["DataSourceConformance"]


class DataSourceConformance(LookingRules, FetchingRules, RobustnessRules):
    """
    Everything a caller may rely on in a data source, one test for each rule.

    Subclass it, name the class, and say how to configure a source that has the ``items``::

        class TestArchiveSource(DataSourceConformance):
            provider_class = ArchiveSource

            @pytest.fixture
            def source_config(self, tmp_path: Path) -> ArchiveConfig:
                with ZipFile(tmp_path / "a.zip", "w") as archive:
                    for name, content in self.items.items():
                        archive.writestr(name, content)
                return ArchiveConfig(path=tmp_path / "a.zip")

    The attributes that may be set are those of :class:`.data_sources_case.DataSourceCase`.
    """

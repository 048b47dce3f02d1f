"""The conformance kit of the image family."""

from __future__ import annotations

from .images_making import MakingRules
from .images_robustness import RobustnessRules

__all__ = ["ImageConformance"]


class ImageConformance(MakingRules, RobustnessRules):
    """
    Everything a caller may rely on in a service of images, one test for each rule.

    Subclass it, name the class, and say how to configure one that works::

        class TestStudio(ImageConformance):
            provider_class = StudioImages
            refused_sizes = ("1x1",)

            @pytest.fixture
            def image_config(self) -> StudioConfig:
                return StudioConfig(base_url=..., api_key="...", model="fast")

    The attributes that may be set are those of :class:`.images_case.ImageCase`. Let it ask a
    double of the service: pictures cost money.
    """

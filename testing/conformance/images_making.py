"""The rules for what is made: pictures, sizes, formats, files, costs."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from ...providers.media.images import GeneratedImage
from ...providers.registry import UnsupportedCapabilityError
from .case import refusal
from .images_case import ImageCase, Images, expect_true, files_in, image_test

__all__ = ["MakingRules"]

AT_ONCE = 12


class MakingRules(ImageCase):
    """What a caller may rely on in pictures."""

    @image_test
    async def test_a_picture_is_made(self, images: Images) -> None:
        """One picture comes, and what is told of it is true of its bytes."""
        (image,) = await images.generate("a cat")
        assert isinstance(image, GeneratedImage)
        expect_true(image)
        assert image.path is None
        assert len(repr(image)) < 1000, "its bytes are in its repr"

    @image_test
    async def test_a_size_is_kept_to(self, images: Images) -> None:
        """A picture has the size that was asked for."""
        (image,) = await images.generate("a cat", size=self.size)
        expect_true(image)
        assert f"{image.width}x{image.height}" == self.size

    @image_test
    async def test_each_format_is_made(self, images: Images) -> None:
        """A picture has the format that was asked for."""
        for name in self.formats:
            (image,) = await images.generate("a cat", size=self.size, format=name)
            expect_true(image)
            assert image.media_type == f"image/{name}"

    @image_test
    async def test_many_are_made(self, images: Images) -> None:
        """As many come as were asked for, though the service makes fewer at once."""
        made = await images.generate("a cat", count=self.many, size=self.size)
        assert len(made) == self.many
        for image in made:
            expect_true(image)

    @image_test
    async def test_a_picture_is_written(self, images: Images, tmp_path: Path) -> None:
        """With a path the file is there, nothing beside it, and the picture says where."""
        for suffix, name in ((".png", "png"), (".JPG", "jpeg"), (".jpeg", "jpeg")):
            if name not in self.formats:
                continue
            folder = tmp_path / suffix
            folder.mkdir()
            target = folder / f"cat{suffix}"
            (image,) = await images.generate("a cat", size=self.size, path=target)
            assert image.path == target
            assert image.media_type == f"image/{name}", f"the suffix says {name}"
            expect_true(image)
            assert files_in(folder) == [target.name]

    @image_test
    async def test_a_file_is_replaced(self, images: Images, tmp_path: Path) -> None:
        """A file that is there is replaced; the path may be a text."""
        target = tmp_path / f"cat.{self.formats[0]}"
        target.write_bytes(b"before")
        (image,) = await images.generate("a cat", size=self.size, path=str(target))
        expect_true(image)
        assert files_in(tmp_path) == [target.name]

    @image_test
    async def test_many_files_are_numbered(self, images: Images, tmp_path: Path) -> None:
        """Of several pictures each has a file, numbered before the suffix."""
        suffix = self.formats[0]
        made = await images.generate(
            "a cat", count=3, size=self.size, path=tmp_path / f"cat.{suffix}"
        )
        assert [image.path for image in made] == [
            tmp_path / f"cat-{number}.{suffix}" for number in (1, 2, 3)
        ]
        for image in made:
            expect_true(image)
        assert len(files_in(tmp_path)) == 3

    @image_test
    async def test_calls_are_not_mixed_up(self, images: Images) -> None:
        """Each of many calls at once gets what it asked for."""
        wanted = [self.formats[number % len(self.formats)] for number in range(AT_ONCE)]
        made = await asyncio.gather(
            *(images.generate("a cat", size=self.size, format=name) for name in wanted)
        )
        for name, (image,) in zip(wanted, made, strict=True):
            expect_true(image)
            assert image.media_type == f"image/{name}"

    # -- capabilities --------------------------------------------------------------------

    @image_test
    async def test_a_seed_makes_the_same_again(self, images: Images) -> None:
        """The same seed gives the same picture, and is told; others of a batch differ from it."""
        self.needs("seed")
        first, second = await images.generate("a cat", count=2, size=self.size, seed=7)
        (again,) = await images.generate("a cat", size=self.size, seed=7)
        assert first.seed == again.seed == 7
        assert first.data == again.data
        assert second.data != first.data

    @image_test
    async def test_no_seed_is_told(self, images: Images) -> None:
        """Without the capability a seed is refused."""
        self.lacks("seed")
        await refusal(UnsupportedCapabilityError, "seed", images.generate("a cat", seed=7))

    @image_test
    async def test_a_negative_prompt_is_taken(self, images: Images) -> None:
        """What should not be seen can be said."""
        self.needs("negative-prompt")
        (image,) = await images.generate("a cat", size=self.size, negative_prompt="dogs")
        expect_true(image)

    @image_test
    async def test_no_negative_prompt_is_told(self, images: Images) -> None:
        """Without the capability a negative prompt is refused."""
        self.lacks("negative-prompt")
        call = images.generate("a cat", negative_prompt="dogs")
        await refusal(UnsupportedCapabilityError, "negative_prompt", call)

    # -- costs ---------------------------------------------------------------------------

    @image_test
    async def test_costs_are_estimated_without_asking(self, images: Images) -> None:
        """An estimate is an amount, in proportion to the count, or None; it is no coroutine."""
        one = images.estimate_cost(size=self.size)
        assert one is None or (isinstance(one, Decimal) and one >= 0)
        ten = images.estimate_cost(count=10, size=self.size)
        assert ten == (None if one is None else one * 10)

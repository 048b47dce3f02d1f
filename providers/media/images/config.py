"""The settings that every service of images has, and what pictures cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from ...web.config import WebConfig, read_table
from ...web.limit import RateLimit

__all__ = ["Format", "ImageConfig", "ImagePrice"]

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Format = Literal["png", "jpeg", "webp"]
MILLION = 1_000_000


class ImagePrice(BaseModel):
    """
    What the pictures of a model cost, in a currency of the operator's choice.

    ``per_image`` has a price by ``SIZE QUALITY``, ``SIZE``, ``QUALITY`` or ``*``, in this order;
    ``input`` and ``output`` are for a million tokens, for a service that counts them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_image: dict[str, Amount] = Field(default_factory=dict[str, Amount])
    input: Amount | None = None
    output: Amount | None = None

    def of_image(self, size: str | None, quality: str | None) -> Decimal | None:
        """Return what one picture costs; None where no price fits."""
        for key in (f"{size} {quality}", size, quality, "*"):
            if key is not None and key in self.per_image:
                return self.per_image[key]
        return None

    def of_tokens(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what a request costs that used so many; None where tokens have no price."""
        if self.input is None or self.output is None:
            return None
        return (input_tokens * self.input + output_tokens * self.output) / MILLION


class ImageConfig(WebConfig):
    """The settings that every service of images has."""

    api_key: SecretStr | None = None
    model: str = Field(default="", description="The model that is asked where a call names none.")
    size: str | None = Field(
        default=None, description="WIDTHxHEIGHT in pixels where a call does not say."
    )
    format: Format | None = Field(
        default=None, description="png, jpeg or webp where neither a call nor its path says."
    )
    quality: str | None = Field(
        default=None, description="In the service's own words, where a call does not say."
    )
    rate_limit: RateLimit | None = Field(
        default=None,
        description="Requests for pictures at most, such as 60/minute; what is over waits.",
    )
    prices: dict[str, ImagePrice] = Field(
        default_factory=dict[str, ImagePrice],
        description="What pictures cost, by model: {NAME: 0.04}, or {NAME: {per_image, input, "
        "output}}; NAME may be *.",
    )

    @field_validator("prices", mode="before")
    @classmethod
    def _read_prices(cls, value: Any) -> Any:
        """Take JSON too, as a variable of the environment has it; a number is for each picture."""
        value = read_table(value, '{"MODEL": 0.04}')
        if not isinstance(value, dict):
            return value
        prices = dict(cast("dict[Any, Any]", value))
        for name, price in prices.items():
            if not isinstance(price, (dict, ImagePrice)):
                prices[name] = {"per_image": {"*": price}}
        return prices

    def price(self, model: str) -> ImagePrice | None:
        """Return what a model costs: the price of its name, or of ``*``."""
        return self.prices.get(model) or self.prices.get("*")

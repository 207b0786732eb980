"""What a setting may be, and how a value is refused."""

import math
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from bertlib.plumbing.files import InputError, short

KINDS = {
    int: "a whole number, written without a point or an e", float: "a number, such as 0.001",
    bool: "True or False", str: "text",
}


class SettingError(InputError):
    """A setting's value is refused; an option of the same meaning may tell it in its own words."""

    def __init__(self, name: str, value: object, remedy: str):
        super().__init__(f"The setting {name} is {short(value)}; it {remedy}.")
        self.name, self.value, self.remedy = name, value, remedy


class Limits(NamedTuple):
    """The numbers that a setting may be; an open end does not belong to them."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def hold(self, value: float) -> bool:
        """Whether `value` is one of them; nan never is."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = "above" if self.open_low else "at least"
        high = "below" if self.open_high else "at most"
        return f"must be {low} {self.low:,} and {high} {self.high:,}"


def check_fields(settings: Any, limits: Mapping[str, Limits]) -> None:
    """`SettingError` unless a dataclass's fields have their types and lie within `limits`.

    A bool is no number; a whole number is a fine float, and becomes one.
    """
    for field in fields(settings):
        value, kind = getattr(settings, field.name), field.type
        if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
            object.__setattr__(settings, field.name, value := float(value))
        if type(value) is not kind:
            raise SettingError(field.name, value, f"must be {KINDS[kind]}")  # type: ignore[index]
        if kind is float and not math.isfinite(value):
            raise SettingError(field.name, value, "must be a finite number")
    for name, allowed in limits.items():
        if not allowed.hold(value := getattr(settings, name)):
            raise SettingError(name, value, str(allowed))

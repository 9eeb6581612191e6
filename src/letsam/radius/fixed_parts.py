"""Attributes that are fixed when an object is made, because its other attributes are made of them."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import checks


class FixedParts:
    """A base class for objects whose `fixed_parts` must not be set again.

    Raises:
        AttributeError: one of them is set a second time; without this error, the new value would have no effect.

    Example:
        >>> class Pair(FixedParts):
        ...     fixed_parts = ("first",)
        >>> pair = Pair()
        >>> pair.first = 1
        >>> pair.first = 2
        Traceback (most recent call last):
        AttributeError: `first` is fixed when a Pair is made: make a new one, got 2
    """

    fixed_parts: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.fixed_parts and name in self.__dict__:
            kind = type(self).__name__
            raise AttributeError(f"`{name}` is fixed when a {kind} is made: make a new one, got {checks.shown(value)}")
        super().__setattr__(name, value)

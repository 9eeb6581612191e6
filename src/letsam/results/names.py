"""What the name of a method says. This module alone reads it; everything else asks the `MethodName`."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["REFIT", "MethodName"]

REFIT = "+refit"
"""Ends the name of a refit: the learned schedule of a run, replayed on all the training data."""

_NAME = re.compile(
    rf"(?P<search>(?P<family>(?P<learned>lets-)?[^:]*?)(?::.*?)?)(?P<refit>{re.escape(REFIT)})?", re.DOTALL
)


@dataclass(frozen=True)
class MethodName:
    """The name of a method in the records of a trial, in its parts: ``[lets-]KIND[:RHO][+refit]``.

    Args:
        text: the whole name, such as ``"lets-sam:0.1+refit"``.
        search: the name without ``+refit``, which is that of the run that learned the schedule: ``"lets-sam:0.1"``.
        family: the name without its radius: ``"lets-sam"``.
        learned: whether the radius is learned, or replays a learned one.
        refit: whether it is a refit.
    """

    text: str
    search: str
    family: str
    learned: bool
    refit: bool

    @classmethod
    def parse(cls, text: str) -> MethodName:
        """Read a name. Every string is one: a results file may hold methods that this version does not have.

        Example:
            >>> MethodName.parse("lets-sam:0.1+refit")
            MethodName(text='lets-sam:0.1+refit', search='lets-sam:0.1', family='lets-sam', learned=True, refit=True)
        """
        found = _NAME.fullmatch(text)
        assert found is not None, "the pattern matches every string"
        return cls(text, found["search"], found["family"], bool(found["learned"]), bool(found["refit"]))

    @property
    def refitted(self) -> str:
        """The name of the refit of this method."""
        return self.search + REFIT

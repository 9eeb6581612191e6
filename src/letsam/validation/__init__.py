"""Splits that give a learned radius the samples it is measured on."""

from letsam.validation.split import stratified_split

__all__ = ["stratified_split"]

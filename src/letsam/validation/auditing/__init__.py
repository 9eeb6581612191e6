"""Audits of validation data: what is wrong with them, and what to change.

- `data_audit`: `audit`, and its result
- `audited`: training, validation and deployed data as rows of numbers
- `repeats`: duplicates and near duplicates; `label_checks`: shares of classes, suspected labels
- `radius_probe`: whether the validation set is large enough for a learned radius
"""

from letsam.validation.auditing.data_audit import Audit, audit

__all__ = ["Audit", "audit"]

"""Audits of validation data: what is wrong with them, and what to change.

- `data_audit`: `audit`; `audit_record`: its findings
- `audited`: training, validation and deployed data as rows of numbers
- `repeats`: duplicates and near duplicates; `label_checks`: shares of classes, suspected labels
- `radius_probe`: whether the validation set is large enough for a learned radius
"""

from letsam.validation.auditing.audit_record import Audit, AuditFinding
from letsam.validation.auditing.data_audit import audit

__all__ = ["Audit", "AuditFinding", "audit"]

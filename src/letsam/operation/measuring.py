"""The numbers and tests of a batch against the reference of its model; what was seen before plays no part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from letsam.model_folder.input_features import two_sample_rows
from letsam.model_folder.reference import ModelReference
from letsam.operation import drift_tests, labelled_metrics
from letsam.operation.drift_tests import ComparedFeature, compared_columns, embedding_drift_of, feature_drift_of
from letsam.operation.estimates import OF_HELD_OUT, Bootstrapped, Estimate, bootstrapped
from letsam.operation.expected_accuracy import ConfidenceScale
from letsam.operation.labelled_metrics import (
    Bound,
    Labelled,
    bootstrapped_groups,
    bootstrapped_loss,
    bootstrapped_metric,
    known_metric,
)
from letsam.operation.watched_batch import WatchedBatch
from letsam.tasks.metrics import find_metric
from letsam.validation.drift.two_sample import two_sample_test

DRIFT = ("drift_auc", "feature_drift", "embedding_distance")
SHOWN = 5  # features that a record names


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Args:
        metrics: numbers with intervals, by name.
        tests: of each test its "statistic" and "p"; of those against a bound also "expected" and "limit".
        notes: what could not be measured, and why.
    """

    metrics: dict[str, Estimate] = field(default_factory=dict[str, Estimate])
    tests: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    notes: list[str] = field(default_factory=list[str])


class Measuring:
    """Measures batches of a model.

    Args:
        reference: of the model.
        kind: of its targets: "classification", "multilabel" or "regression".
        metric: its main metric.
        rate: probability of any false alarm over the whole watch, between 0 and 1; it decides how far from the
            held-out data the bounds are.
    """

    def __init__(self, reference: ModelReference, kind: str, metric: str, rate: float) -> None:
        self.reference, self.kind, self.metric = reference, kind, metric
        self.rate = rate

    @property
    def metric_key(self) -> str:
        """The name of the main metric in records."""
        return self.metric.replace(" ", "_")

    @cached_property
    def possible(self) -> tuple[str, ...]:
        """The tests that batches of this model can have; they share the rate of false alarms equally."""
        reference = self.reference
        inputs = reference.modality is not None and len(reference.features) >= drift_tests.FEWEST
        loss = reference.loss is not None
        present = {
            "drift_auc": inputs,
            "feature_drift": True,
            "embedding_distance": True,
            "expected_accuracy": self.kind != "regression",
            self.metric_key: known_metric(self.metric, self.kind),
            "generalization_gap": loss and reference.training_loss is not None,
            "sharpness": loss and len(reference.sharpness) >= labelled_metrics.FEWEST_GROUPS,
        }
        return tuple(name for name, there in present.items() if there)

    @cached_property
    def confidence(self) -> ConfidenceScale:
        """The calibrated confidence of the held-out samples."""
        return ConfidenceScale.fitted(self.reference.outputs, self.reference.targets, self.kind)

    @cached_property
    def bounds(self) -> Mapping[str, Bound]:
        """How bad each number may be, by its test."""
        held_out = Labelled(self.reference.outputs, self.reference.targets, self.reference.weights)
        found: dict[str, Bound] = {}
        if "expected_accuracy" in self.possible:
            values = self.confidence.confidences
            of_confidence = bootstrapped(lambda at: float(values[at].mean()), len(values), replicates=OF_HELD_OUT)
            found["expected_accuracy"] = self._bound(of_confidence, "accuracy", -1)
        if self.metric_key in self.possible:
            metric = bootstrapped_metric(self.metric, self.kind, held_out, OF_HELD_OUT)
            sign = 1 if find_metric(self.metric, self.kind).lower_is_better else -1
            if metric is not None:
                found[self.metric_key] = self._bound(metric, self.metric, sign)
        if "generalization_gap" in self.possible and self.reference.loss is not None:
            loss = bootstrapped_loss(self.reference.loss, self.kind, held_out, OF_HELD_OUT)
            if loss is not None:
                found["generalization_gap"] = self._bound(self._gap(loss), "generalization_gap", 1)
        if "sharpness" in self.possible:
            groups = bootstrapped_groups(self.reference.sharpness)
            if groups is not None:
                found["sharpness"] = self._bound(groups, "sharpness", 1)
        return found

    def measured(self, batch: WatchedBatch, *, drift: bool = True) -> Measured:
        """Measure a batch.

        Args:
            batch: the batch.
            drift: False for a batch whose inputs were measured before, when it had no labels.
        """
        found = Measured()
        if drift:
            self._drift(batch, found)
            if "expected_accuracy" in self.possible:
                self._expected(batch, found)
        if batch.labelled is not None:
            self._labelled(batch, batch.labelled, found)
        return found

    def _drift(self, batch: WatchedBatch, found: Measured) -> None:
        reference, count = self.reference, len(batch)
        if count < drift_tests.FEWEST:
            found.notes.append(f"drift is not tested: {drift_tests.FEWEST} samples are needed, got {count}")
            return
        if "drift_auc" in self.possible:
            known, new = (two_sample_rows(side, reference.modality) for side in (reference.features, batch.features))
            test = two_sample_test(known, new)
            found.metrics["drift_auc"] = Estimate(test.auc, test.low, test.high)
            found.tests["drift_auc"] = {"statistic": test.auc, "p": test.p_value}
        features = compared_columns(reference.features, batch.features, reference.columns) + self._predictions(batch)
        each = feature_drift_of(features)
        found.metrics["feature_drift"] = each.distance
        first = [test for test in each.tests if test.adjusted <= 0.05][:SHOWN]
        changed = {test.name: {"distance": test.distance, "p": test.adjusted} for test in first}
        found.tests["feature_drift"] = {"statistic": each.largest.distance, "p": each.p, "features": changed}
        moved = embedding_drift_of(reference.embeddings, batch.embeddings)
        found.metrics["embedding_distance"] = moved.distance
        found.tests["embedding_distance"] = {"statistic": moved.distance.value, "p": moved.p}

    def _predictions(self, batch: WatchedBatch) -> list[ComparedFeature]:
        """What is predicted, as features: the class, which labels are given, or the numbers."""
        sides = [self.reference.outputs, batch.outputs]
        if self.kind == "classification":
            known, new = (side.argmax(dim=1).numpy() for side in sides)
            return [ComparedFeature("predicted class", known, new, category=True)]
        found: list[ComparedFeature] = []
        for place in range(sides[0].shape[1]):
            known, new = (side[:, place] for side in sides)
            if self.kind == "multilabel":
                given = (known > 0).long().numpy(), (new > 0).long().numpy()
                found.append(ComparedFeature(f"predicted label {place + 1}", *given, category=True))
            else:
                name = "prediction" if sides[0].shape[1] == 1 else f"prediction {place + 1}"
                found.append(ComparedFeature(name, known.numpy(), new.numpy()))
        return found

    def _expected(self, batch: WatchedBatch, found: Measured) -> None:
        found.metrics["expected_accuracy"] = self.confidence.expected(batch.outputs)
        values = self.confidence.of(batch.outputs)
        self._against_bound("expected_accuracy", bootstrapped(lambda at: float(values[at].mean()), len(values)), found)
        # The test is of the mean confidence; what is shown is the accuracy that it stands for.
        test = found.tests["expected_accuracy"]
        offset = float((self.confidence.right - self.confidence.confidences).mean())
        for name in ("statistic", "expected", "limit"):
            test[name] += offset

    def _labelled(self, batch: WatchedBatch, samples: Labelled, found: Measured) -> None:
        reference = self.reference
        if len(samples) < labelled_metrics.FEWEST:
            found.notes.append(
                f"nothing is tested with labels: {labelled_metrics.FEWEST} of them are needed, got {len(samples)}"
            )
        if known_metric(self.metric, self.kind):
            metric = bootstrapped_metric(self.metric, self.kind, samples)
            if metric is None:
                found.notes.append(f"{self.metric} is not defined for these labels")
            else:
                self._number(self.metric_key, metric, found)
        else:
            found.notes.append(f"{self.metric} is not measured: it is computed by the code of the task alone")
        if reference.loss is not None and (loss := bootstrapped_loss(reference.loss, self.kind, samples)) is not None:
            found.metrics["loss"] = loss.estimate
            if reference.training_loss is not None:
                self._number("generalization_gap", self._gap(loss), found)
        if "sharpness" in self.possible:
            groups = bootstrapped_groups(batch.sharpness)
            if groups is None:
                found.notes.append("sharpness is not measured: it needs 64 samples with labels")
            else:
                self._number("sharpness", groups, found, tested=True)

    def _number(self, name: str, value: Bootstrapped, found: Measured, *, tested: bool | None = None) -> None:
        found.metrics[name] = value.estimate
        if tested or value.count >= labelled_metrics.FEWEST:
            self._against_bound(name, value, found)

    def _against_bound(self, name: str, value: Bootstrapped, found: Measured) -> None:
        bound = self.bounds.get(name)
        if bound is not None:
            found.tests[name] = {
                "statistic": value.value,
                "p": bound.p_value(value),
                "expected": bound.expected,
                "limit": bound.limit,
            }

    def _bound(self, held_out: Bootstrapped, name: str, sign: int) -> Bound:
        miss = self.rate / len(self.possible) / 2  # the other half is for the evidence of the batches
        return Bound.of(held_out, miss, self.reference.spread.get(name, 0.0), sign)

    def _gap(self, loss: Bootstrapped) -> Bootstrapped:
        training = self.reference.training_loss or 0.0
        return Bootstrapped(loss.value - training, loss.replicates - training, loss.count)

"""`Watch`: batch by batch, whether a model in operation still sees what it was trained for, and does what it did."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from letsam import checks
from letsam.model_folder.data_hashes import hashed_source
from letsam.model_folder.model_loading import LoadedModel, load
from letsam.model_folder.model_places import model_place
from letsam.model_folder.reference import ModelReference
from letsam.model_folder.reference_making import reference_of_data
from letsam.operation.judging import WatchState, judged
from letsam.operation.measuring import Measuring
from letsam.operation.watch_record import RECORDS, RecordFile, WatchError, WatchRecord, inputs_changed
from letsam.operation.watched_batch import WatchedBatch, name_of_data, read_batch
from letsam.results import locked_folder, replacing_folder, write_atomically

REFERENCE, SOURCE = "reference", "source.json"
UNCOVERED = (
    "the inputs have changed: the expected accuracy is then often far too high, which its interval does not cover; see "
    "letsam docs expected-accuracy"
)
RATE = 0.05


class Watch:
    """Watches a model in operation; all that it remembers is in its folder, so that each batch may have a new process.

    Args:
        model: the folder of a model, or of results or versions with one; or the model itself.
        out: folder of the watch; None: ``MODEL-watch`` beside the folder of the model.
        reference: what new data are compared with, where the model's folder has no reference: a file or folder of data
            with targets, like the training data, which the model was not trained on. It is kept in `out`.
        false_alarm_rate: probability of any false alarm over the whole watch, between 0 and 1; None: that of the
            earlier records, or 0.05.
        callbacks: called with each new record, once it is on the disk, and again with the last one when its batch comes
            again, as a crash may have come in between. What they raise becomes a warning.
        device: where the network runs.
        batch_size: samples that the network gets at once, >= 1.

    Raises:
        WatchError: the model has no reference, or `out` belongs to a watch of another model or with another rate.
        ModelFolderError: the folder of the model was changed, or is of another version.

    Example:
        >>> Watch("nowhere")
        Traceback (most recent call last):
        letsam.model_folder.manifest.ModelFolderError: nowhere: expected the folder of a model, but there is none
    """

    def __init__(
        self,
        model: str | Path | LoadedModel,
        out: str | Path | None = None,
        *,
        reference: str | Path | None = None,
        false_alarm_rate: float | None = None,
        callbacks: Sequence[Callable[[WatchRecord], object]] = (),
        device: str = "cpu",
        batch_size: int = 256,
    ) -> None:
        if false_alarm_rate is not None and not 0 < checks.number("false_alarm_rate", false_alarm_rate) < 1:
            raise ValueError(f"`false_alarm_rate` must be between 0 and 1, got {false_alarm_rate}")
        self.batch_size = checks.whole("batch_size", batch_size, 1)
        self.model = model if isinstance(model, LoadedModel) else load(model, device=device)
        folder = self.model.folder
        self.out = folder.with_name(f"{folder.name}-watch") if out is None else Path(out)
        self.callbacks = tuple(callbacks)
        self._rate = false_alarm_rate
        with self._locked():
            file = self._file()
            self.reference = self._reference(None if reference is None else str(reference), begun=bool(file.records))
        begun = _state(file).rate if file.records else RATE
        rate = begun if false_alarm_rate is None else false_alarm_rate
        self.measuring = Measuring(self.reference, self.model.kind, self.model.config["metric"], rate)

    @property
    def records(self) -> tuple[WatchRecord, ...]:
        """The records so far, as they are on the disk."""
        return self._file().records

    def observe(
        self, data: Any, labels: Any = None, *, progress: Callable[[int, int], object] | None = None
    ) -> WatchRecord:
        """Measure a batch, write its record to the disk, and make the page.

        A batch is known by its inputs. One that comes again without anything new gives its earlier record; one that
        comes again with its labels is measured with them, and its inputs are not tested a second time.

        Args:
            data: a file or folder of the same form as the training data; or what `LoadedModel.predict` takes.
            labels: None: there are none. True: they are in `data`. Else one for each sample, with None where it is not
                known; a tensor has numbers of classes.
            progress: called with the number of samples that have been read, and that of all.

        Returns:
            The record; its `alarms` say what has changed.

        Raises:
            DataError: data of another form, or none; labels that do not fit.
            WatchError: `out` belongs to a watch of another model.
            ValueError: another process writes to `out`.
        """
        with self._locked():
            file = self._file()
            batch = read_batch(self.model, self.reference, data, labels, batch_size=self.batch_size, progress=progress)
            same = [record for record in file.records if record.data["fingerprint"] == batch.fingerprint]
            repeated = next((r for r in reversed(same) if r.labelled or batch.targets is None), None)
            record = repeated
            if record is None:
                record = self._record(batch, file, name_of_data(data), again=same[0].batch if same else None)
                file = file.append(record)
            unwritten = self._write_page(file.records)
        if unwritten is not None:
            warnings.warn(f"the record is written, but not the page: {unwritten}", stacklevel=2)
        if record is file.records[-1]:
            self._call(record)
        return record

    def _call(self, record: WatchRecord) -> None:
        for callback in self.callbacks:
            try:
                callback(record)
            except Exception as error:
                text = " ".join(str(error).split())
                warnings.warn(f"the record is written, but {type(error).__name__} in a callback: {text}", stacklevel=3)

    def _record(self, batch: WatchedBatch, file: RecordFile, name: str, again: int | None) -> WatchRecord:
        measuring, earlier = self.measuring, file.records
        state = _state(file) if earlier else WatchState(measuring.rate, measuring.possible)
        found = measuring.measured(batch, drift=again is None)
        targets = batch.targets
        new_classes = () if targets is None else targets.unseen
        result = judged(found, state, new_classes, 0 if targets is None else len(targets))
        time = datetime.now(UTC).isoformat(timespec="seconds")
        notes = [] if again is None else [f"the inputs were measured as batch {again}; these are their labels"]
        notes += found.notes
        if "expected_accuracy" in found.metrics and inputs_changed(result.alarms):
            notes.append(UNCOVERED)
        if earlier and time < max(record.time for record in earlier):
            notes.append("the clock is behind that of an earlier record; the order of the records counts")
        data = {"name": name, "fingerprint": batch.fingerprint, "samples": len(batch)}
        if targets is not None:
            data["labels"] = len(targets)
        metrics = {key: value for key, value in found.metrics.items() if value.finite}
        return WatchRecord(
            time=time,
            model=self.model.fingerprint,
            data=data,
            labelled=targets is not None,
            batch=len(earlier) + 1,
            metrics=metrics,
            tests=result.tests,
            alarms=result.alarms,
            state=result.state.as_json(),
            notes=tuple(notes),
        )

    def _locked(self) -> Any:
        return locked_folder(self.out)

    def _file(self) -> RecordFile:
        """The records, if they are of this watch."""
        file = RecordFile.read(self.out / RECORDS)
        if not file.records:
            return file
        last = file.records[-1]
        if last.model != self.model.fingerprint:
            raise WatchError(
                f"{self.out}: holds the watch of another model ({last.model[:12]}), got {self.model.folder} "
                f"({self.model.fingerprint[:12]}); choose another --out"
            )
        rate = _state(file).rate
        if self._rate is not None and self._rate != rate:
            raise WatchError(
                f"{self.out}: the watch has begun with a false alarm rate of {rate:g}, got {self._rate:g}; choose "
                "another --out"
            )
        return file

    def _reference(self, given: str | None, *, begun: bool) -> ModelReference:
        """That of the watch, or else that of the model's folder."""
        place = self.out / REFERENCE
        if given is not None:
            source = hashed_source("reference", given)
            if _source_of(place) != source["sha256"]:
                if begun:
                    raise WatchError(f"{self.out}: the watch has begun with another reference; choose another --out")
                targets = self.model.targets(given)
                made = reference_of_data(self.model, given, targets, given)
                with replacing_folder(place) as folder:
                    made.save(folder)
                    write_atomically(folder / SOURCE, json.dumps(source))
        found = ModelReference.load(place) or ModelReference.load(self.model.folder)
        if found is None:
            raise WatchError(
                f"{self.model.folder}: has no {REFERENCE}.json, as an older letsam wrote it, or of a task in code; "
                "train it again, or name data with targets that it was not trained on by --reference"
            )
        return found

    def _write_page(self, records: Sequence[WatchRecord]) -> OSError | None:
        """The record counts, and its alarms: a page that cannot be written, as on a full disk, is no error."""
        from letsam.operation.watch_page import write_watch_page

        try:
            write_watch_page(records, self.model, self.out)
        except OSError as error:
            return error
        return None


def default_watch_folder(model: str | Path) -> Path:
    """Where the watch of a model is, unless another folder is given."""
    place = model_place(model)
    return place.with_name(f"{place.name}-watch")


def _state(file: RecordFile) -> WatchState:
    """That of the last record."""
    try:
        return WatchState.from_json(file.records[-1].state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WatchError(f"{file.path}: expected the state of a watch in its last record, got {error!r}") from None


def _source_of(place: Path) -> str | None:
    try:
        return str(json.loads((place / SOURCE).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

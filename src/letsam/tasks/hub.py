"""Data sets of the Hugging Face hub, loaded by `datasets` from the hub or from a local folder with the same files."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from letsam.tasks.errors import TaskError

if TYPE_CHECKING:
    import datasets

INSTALL = '`pip install "letsam[tasks]"`'


def load_splits(
    hub_name: str,
    splits: Sequence[str],
    columns: Sequence[str],
    *,
    folder_name: str,
    data_dir: Path | None = None,
    config: str | None = None,
    builder: str | None = None,
) -> list[datasets.Dataset]:
    """The given splits of a data set, from a local folder if there is one, else from the hub.

    The folder may be a clone of the hub's repository (parquet, JSON or CSV files, with or without a README that lists
    the configurations), the result of ``save_to_disk``, or a folder that ``builder`` reads.

    Args:
        hub_name: Name on the hub, such as ``uoft-cs/cifar10``; ``datasets`` caches what it downloads.
        splits: Names of the splits, such as ``("train", "test")``.
        columns: Columns that each split must have.
        folder_name: Name of the subfolder to search for in ``data_dir`` and in the environment variable
            ``LETSAM_DATA``.
        data_dir: Folder with the files, or with a subfolder ``folder_name`` that has them; if given, nothing else is
            searched.
        config: The configuration on the hub, such as ``cola``; in a local folder, also the name of a subfolder.
        builder: The ``datasets`` builder that reads a local folder, such as ``imagefolder``; None: detected from the
            files.

    Returns:
        One ``datasets.Dataset`` for each name in ``splits``.

    Raises:
        TaskError: If ``datasets`` is missing, the data cannot be found or read, or a split or column is missing; the
            message is one line.
    """
    try:
        import datasets  # slow to import
    except ImportError as error:
        raise TaskError(f"`{folder_name}` needs the package datasets; install it with {INSTALL}") from error
    folder = find_folder(folder_name, data_dir)
    place = hub_name if folder is None else str(folder)
    try:
        with quiet_datasets():
            loaded = _from_hub(hub_name, config) if folder is None else _from_folder(folder, splits, config, builder)
    except Exception as error:  # datasets raises many types, including those of pyarrow and fsspec
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if folder is None:
            raise TaskError(
                f"cannot load {hub_name} from the Hugging Face hub ({reason}); to work offline, give a folder with "
                f"its files as `data_dir` (--data-dir), or as {folder_name} in LETSAM_DATA"
            ) from error
        raise TaskError(f"{place}: cannot be read as the data set {hub_name} ({reason})") from error
    if not isinstance(loaded, datasets.DatasetDict):
        raise TaskError(f"{place}: expected a data set with the splits {', '.join(splits)}, got one without splits")
    for split in splits:
        if split not in loaded:
            raise TaskError(f"{place}: expected the splits {', '.join(splits)}, got {', '.join(map(str, loaded))}")
        found = loaded[split].column_names
        if not set(columns) <= set(found):
            raise TaskError(
                f"{place}: expected the columns {', '.join(columns)} in {split}, got {', '.join(found) or 'none'}"
            )
        if len(loaded[split]) == 0:
            raise TaskError(f"{place}: expected at least 1 row in {split}, got 0")
    return [loaded[split] for split in splits]


def find_folder(folder_name: str, data_dir: Path | None = None) -> Path | None:
    """The local folder of a data set: in ``data_dir`` if given, else in the environment variable ``LETSAM_DATA``.

    Args:
        folder_name: Name of the folder.
        data_dir: The folder itself, or its parent.

    Returns:
        The folder; None if ``data_dir`` is not given and ``LETSAM_DATA`` has no such folder.

    Raises:
        TaskError: If ``data_dir`` is not a folder.
    """
    if data_dir is not None:
        if not Path(data_dir).is_dir():
            raise TaskError(f"`data_dir` must be a folder with the files of {folder_name}, got {data_dir}")
        below = Path(data_dir) / folder_name
        return below if below.is_dir() else Path(data_dir)
    root = os.environ.get("LETSAM_DATA")
    below = Path(root) / folder_name if root else None
    return below if below is not None and below.is_dir() else None


def _from_hub(hub_name: str, config: str | None) -> object:
    import datasets

    return datasets.load_dataset(hub_name, config)


def _from_folder(folder: Path, splits: Sequence[str], config: str | None, builder: str | None) -> object:
    import datasets

    root = folder
    if config is not None and (folder / config).is_dir():
        folder = folder / config
    if (folder / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(folder))
    if builder is not None and not any(folder.glob("**/*.parquet")):
        return datasets.load_dataset(builder, data_dir=str(folder))
    # Without a README, `datasets` would take validation_matched-*.parquet for a part of validation: give the names.
    files = {split: f"{split}-*.parquet" for split in splits if any(folder.glob(f"{split}-*.parquet"))}
    if len(files) == len(splits) and not (folder / "README.md").is_file():
        return datasets.load_dataset(str(folder), data_files=files)
    described = config is not None and (root / "README.md").is_file()
    if described and (folder == root or config in datasets.get_dataset_config_names(str(root))):
        return datasets.load_dataset(str(root), config)
    return datasets.load_dataset(str(folder))


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Suppress retry warnings, and progress bars if stderr is not a terminal; the final error is reported anyway."""
    import datasets

    logger = logging.getLogger("huggingface_hub")
    level, shown = logger.level, datasets.utils.are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not shown:
            datasets.enable_progress_bars()

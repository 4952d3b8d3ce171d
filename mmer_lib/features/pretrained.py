"""Pretrained networks as feature extractors: speech, text and vision checkpoints of transformers.

- ``PretrainedAudio``: wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), WavLM (Chen et
  al. 2022) and their kin; a waveform (N,) at 16 kHz -> (T, D) at 50 Hz
- ``PretrainedText``: BERT (Devlin et al. 2019) and its kin; words -> (T, D), one row a token
- ``PretrainedVideo``: ResNet (He et al. 2016), ViT (Dosovitskiy et al. 2021) and their kin; small
  pictures (T, S, S, 3) -> (T, D), one row a frame

``layer`` is "last", a number (0 is what enters the first layer) or "mean", the mean of what all
layers give. Networks run in float32; an item alone equals itself in a batch to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmer_lib.errors import InputError, unknown
from mmer_lib.features.audio import read_waveform
from mmer_lib.features.base import Clip, Track, Unreadable
from mmer_lib.features.checkpoints import (
    Checkpoint,
    check_preprocessor,
    load_model,
    minilm_folder,
    reading,
)
from mmer_lib.features.faces import FACE_RECIPE
from mmer_lib.features.networks import Network, groups, padded
from mmer_lib.features.text import read_words
from mmer_lib.features.video import Crops, check_picture_options, read_crops

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PretrainedAudio", "PretrainedText", "PretrainedVideo", "minilm_folder"]

# Networks whose frames are those of a stack of convolutions, and of them the ones that hide
# padding from every layer: the others' later convolutions would read it.
_SPEECH = (
    "wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio",
    "wav2vec2-conformer",
)  # fmt: skip
_MASKED = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
# RoBERTa and its kin count positions from the padding's number + 1.
_SHIFTED = (
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "mpnet", "longformer",
    "roberta-prelayernorm", "ibert",
)  # fmt: skip


# --- text ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokens:
    """A text as a network reads it."""

    ids: np.ndarray  # (n,) int64, the marks at the ends included
    kept: np.ndarray  # (n,) bool: no mark
    spans: np.ndarray  # (T, 2) int64: the characters [from, to) of the kept ones


@dataclass(frozen=True, kw_only=True)
class PretrainedText(Network):
    """Token sequences of BERT and its kin: (T, D), with the characters of each token.

    The marks at the ends ([CLS], [SEP], <s> ...) are seen by the network and left out here. A
    text longer than the network's positions is cut there. ``source="minilm"`` is the encoder of
    an installed package, see ``minilm_folder``.
    """

    modality: ClassVar[str] = "text"
    batch: int = 32

    def describe(self) -> str:
        """One line for a reader."""
        most = _most_tokens(self.checkpoint)
        cut = "" if most is None else f", text cut after {most} tokens with its end marks"
        return f"{self.width} numbers a token, {self.of_layers()}{cut}"

    def check_kind(self, checkpoint: Checkpoint) -> None:
        """Raise ``InputError`` unless the network reads text and gives a row a token."""
        config = checkpoint.config
        reads = isinstance(getattr(config, "vocab_size", None), int)
        speaks = getattr(config, "is_encoder_decoder", False) or checkpoint.kind in _SPEECH
        if not reads or speaks:
            raise InputError(
                f"model {self.source!r} is a {checkpoint.kind} network; an encoder of text such as "
                f"bert, roberta or distilbert expected"
            )

    def read(self, clip: Clip) -> Tokens:
        """The tokens of a text. Raises ``Unreadable`` if it has none."""
        text, found = read_words(clip), self.checkpoint
        most = _most_tokens(found)
        told = _tokenizer(found)(
            text, truncation=most is not None, max_length=most, padding=False,
            return_offsets_mapping=True, return_special_tokens_mask=True,
        )  # fmt: skip
        kept = ~np.array(told["special_tokens_mask"], dtype=bool)  # (n,)
        spans = [_trimmed(text, *span) for span in told["offset_mapping"]]
        if not kept.any():
            raise Unreadable(f"{clip.where()}: no words that the {found.kind} network can read")
        ids = np.array(told["input_ids"], dtype=np.int64)
        return Tokens(ids, kept, np.array(spans, dtype=np.int64)[kept])

    def encode(self, media: Sequence[Tokens]) -> list[Track]:
        """A row a token."""
        pad = _tokenizer(self.checkpoint).pad_token_id
        tracks: dict[int, Track] = {}
        for group in groups([len(m.ids) for m in media], self.batch, mixed=pad is not None):
            ids, mask = padded([media[i].ids for i in group], pad or 0)  # (B, n)
            rows = self.sequences({"input_ids": ids, "attention_mask": mask})  # (B, n, D)
            for i, row in zip(group, rows, strict=True):
                values = row[: len(media[i].ids)][media[i].kept]  # (T, D)
                track = Track(values, np.full(len(values), np.nan), media[i].spans)
                tracks[i] = track.first(self.longest)
        return [tracks[i] for i in range(len(media))]


@lru_cache(maxsize=2)
def _tokenizer(checkpoint: Checkpoint) -> Any:
    from transformers import AutoTokenizer

    with reading(checkpoint.folder):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"model {checkpoint.folder}: its tokenizer tells no character offsets; a folder with "
            f"tokenizer.json expected"
        )
    return tokenizer


def _most_tokens(checkpoint: Checkpoint) -> int | None:
    """Tokens that a network takes, the marks at the ends included; None: any number."""
    config, limits = checkpoint.config, [_tokenizer(checkpoint).model_max_length]
    if positions := getattr(config, "max_position_embeddings", None):
        shift = config.pad_token_id + 1 if checkpoint.kind in _SHIFTED else 0
        limits.append(positions - shift)
    least = min(limits)
    return int(least) if least < 1 << 24 else None  # larger: the tokenizer does not know


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without blanks at either end, which some tokenizers count to the word."""
    inside = text[start:end]
    left = len(inside) - len(inside.lstrip())
    return start + left, max(start + left, end - (len(inside) - len(inside.rstrip())))


# --- audio ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PretrainedAudio(Network):
    """Frames of wav2vec 2.0, HuBERT, WavLM and their kin: (T, D).

    The frame rate is the sampling rate over the product of the convolutions' strides, 50 Hz for
    all of these; a time is the middle of the stretch a frame's convolutions see (25 ms). Networks
    that normalise over time (``feat_extract_norm="group"``), or were trained without a mask, see
    clips of equal length together and others one by one, as padding would change their numbers.
    """

    modality: ClassVar[str] = "audio"
    batch: int = 4  # on a CPU one is as fast and takes less memory; on a GPU give more

    @property
    def rate(self) -> float:
        """Frames a second."""
        found = self.checkpoint
        return float(_preprocessor(found).sampling_rate / _hop(found))

    def describe(self) -> str:
        """One line for a reader."""
        return f"{self.width} numbers a frame, {self.of_layers()}, {self.rate:g} frames a second"

    def check_kind(self, checkpoint: Checkpoint) -> None:
        """Raise ``InputError`` unless the network hears waveforms through convolutions."""
        if checkpoint.kind not in _SPEECH:
            raise unknown(f"speech network in {self.source!r}:", checkpoint.kind, _SPEECH)

    def read(self, clip: Clip) -> np.ndarray:
        """The waveform (N,) float32. Raises ``Unreadable`` if it is shorter than one frame."""
        found = self.checkpoint
        rate, field = _preprocessor(found).sampling_rate, _field(found)
        wave = read_waveform(clip, rate)
        if len(wave) < field:
            raise Unreadable(
                f"{clip.where()}: {1000 * len(wave) / rate:.3g} ms of sound; the {found.kind} "
                f"network needs at least {1000 * field / rate:.3g} ms"
            )
        return wave

    def encode(self, media: Sequence[np.ndarray]) -> list[Track]:
        """A row a frame."""
        found = self.checkpoint
        before, masked = _preprocessor(found), _takes_mask(found)
        tracks: dict[int, Track] = {}
        for group in groups([len(wave) for wave in media], self.batch, mixed=masked):
            waves = [_normal(media[i]) if before.do_normalize else media[i] for i in group]
            values, mask = padded(waves, 0.0)  # (B, N)
            inputs = {"input_values": values}
            if masked:
                inputs["attention_mask"] = mask
            for i, row in zip(group, self.sequences(inputs), strict=True):
                frames = row[: _frames(found, len(media[i]))]  # (T, D)
                tracks[i] = Track(frames, self._times(len(frames))).first(self.longest)
        return [tracks[i] for i in range(len(media))]

    def _times(self, frames: int) -> np.ndarray:
        """(T,) seconds: the middle of what each frame sees."""
        found = self.checkpoint
        samples = np.arange(frames) * _hop(found) + _field(found) / 2
        return samples / float(_preprocessor(found).sampling_rate)


@lru_cache(maxsize=2)
def _preprocessor(checkpoint: Checkpoint) -> Any:
    from transformers import AutoFeatureExtractor

    check_preprocessor(checkpoint)
    with reading(checkpoint.folder):
        return AutoFeatureExtractor.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )


def _normal(wave: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 over the clip, as the networks were trained; silence stays silent."""
    return ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).astype(np.float32)


def _hop(checkpoint: Checkpoint) -> int:
    """Samples from one frame to the next: 320."""
    return math.prod(checkpoint.config.conv_stride)


def _field(checkpoint: Checkpoint) -> int:
    """Samples that one frame sees: 400."""
    kernels, strides = checkpoint.config.conv_kernel, checkpoint.config.conv_stride
    return 1 + sum((k - 1) * math.prod(strides[:i]) for i, k in enumerate(kernels))


def _frames(checkpoint: Checkpoint, samples: int) -> int:
    """T: a convolution without padding gives a frame wherever its whole field is inside."""
    return (samples - _field(checkpoint)) // _hop(checkpoint) + 1


def _takes_mask(checkpoint: Checkpoint) -> bool:
    """Whether padding that is masked changes nothing."""
    of_frames = checkpoint.config.feat_extract_norm == "layer"
    trained_so = bool(_preprocessor(checkpoint).return_attention_mask)
    return of_frames and trained_so and checkpoint.kind in _MASKED


# --- video ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PretrainedVideo(Network):
    """A vector a frame from ResNet, ViT and their kin: (T, D).

    The crop takes the place of the checkpoint's own resizing and centre crop: it is cut at the
    size the network expects, then scaled and normalised as the checkpoint says. Feature maps
    (ResNet) are averaged over space; of tokens (ViT) the class token is taken, or the mean where
    there is none. Poolers are not used: many checkpoints come without their weights.
    """

    modality: ClassVar[str] = "video"
    batch: int = 32
    rate: float = 3.0  # frames a second
    crop: str = "face"  # face, centre or whole

    def __post_init__(self) -> None:
        super().__post_init__()
        check_picture_options("pretrained video", self.rate, self.crop, size=224)

    def check_kind(self, checkpoint: Checkpoint) -> None:
        """Raise ``InputError`` unless the network sees pictures."""
        config = checkpoint.config
        if not hasattr(config, "num_channels") and not hasattr(config, "vision_config"):
            raise InputError(
                f"model {self.source!r} is a {checkpoint.kind} network; one of vision such as "
                f"resnet, vit or clip expected"
            )

    @property
    def width(self) -> int:
        """F: asked of the network itself, as it may differ between layers."""
        return _picture_width(self.source, self.checkpoint.digest, self.layer, self.device)

    def describe(self) -> str:
        """One line for a reader."""
        crop = {"face": "of the face", "centre": "of the centre", "whole": "of the whole"}
        return (
            f"{self.width} numbers a frame {crop[self.crop]}, {self.of_layers()}, "
            f"{self.rate:g} frames a second"
        )

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers."""
        return {**super().recipe(), "rate": self.rate, "crop": self.crop, **FACE_RECIPE}

    def read(self, clip: Clip) -> Crops:
        """The crops of a clip: (T, size, size, 3) uint8."""
        size = _side(self.checkpoint)
        return read_crops(clip, self.rate, self.crop, size, grey=False, longest=self.longest)

    def encode(self, media: Sequence[Crops]) -> list[Track]:
        """A row a frame."""
        tracks = []
        for crops in media:
            starts = range(0, len(crops.pictures), self.batch)
            parts = [self._vectors(crops.pictures[i : i + self.batch]) for i in starts]
            track = Track(np.concatenate(parts), crops.times, faceless=crops.faceless)
            tracks.append(track.first(self.longest))
        return tracks

    def _vectors(self, pictures: np.ndarray) -> np.ndarray:
        """(T, size, size, 3) uint8 -> (T, D) float32."""
        import torch

        found = self.checkpoint
        pixels = _picture_processor(found)(
            images=list(pictures), return_tensors="pt", input_data_format="channels_last",
            do_resize=False, do_center_crop=False,
        )  # fmt: skip
        states = self.states({"pixel_values": pixels["pixel_values"]})
        first = _has_class_token(found, self.device)
        vectors = [_pooled(state, first) for state in states]
        if len({vector.shape for vector in vectors}) > 1:
            widths = ", ".join(str(vector.shape[1]) for vector in vectors)
            raise InputError(
                f"layer='mean': the layers of the {found.kind} network are {widths} wide and have "
                f"no mean; give last or a number"
            )
        return torch.stack(vectors).mean(dim=0).cpu().numpy()  # (T, D)


def _pooled(state: Tensor, first: bool) -> Tensor:
    """(T, D, h, w) or (T, tokens, D) -> (T, D)."""
    if state.ndim == 4:
        return state.mean(dim=(2, 3))
    return state[:, 0] if first else state.mean(dim=1)


@lru_cache(maxsize=8)
def _picture_width(source: str, digest: str, layer: str, device: str) -> int:
    extractor = PretrainedVideo(source=source, layer=layer, device=device)
    side = _side(extractor.checkpoint)
    return int(extractor._vectors(np.zeros((1, side, side, 3), np.uint8)).shape[1])


def _has_class_token(checkpoint: Checkpoint, device: str) -> bool:
    names = (name for name, _ in load_model(checkpoint, device).named_parameters())
    return any(name.endswith(("cls_token", "class_embedding")) for name in names)


@lru_cache(maxsize=2)
def _picture_processor(checkpoint: Checkpoint) -> Any:
    from transformers import AutoImageProcessor

    check_preprocessor(checkpoint)
    with reading(checkpoint.folder):
        # The same numbers whether torchvision is there or not.
        return AutoImageProcessor.from_pretrained(
            checkpoint.folder, backend="pil", local_files_only=True, trust_remote_code=False
        )


def _side(checkpoint: Checkpoint) -> int:
    """The side in pixels of the square pictures that a network expects."""
    before = _picture_processor(checkpoint)
    cropped = getattr(before, "crop_size", None) if getattr(before, "do_center_crop", 0) else None
    told = dict(cropped or before.size)
    sides = {value for value in told.values() if value}
    if len(sides) != 1 or not set(told) <= {"height", "width", "shortest_edge"}:
        raise InputError(f"model {checkpoint.folder}: expects pictures of {told}; squares expected")
    return int(sides.pop())

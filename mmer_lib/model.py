"""The recognizer: encoders -> fusion -> pooling -> classifier, and its configurations by name.

A configuration is written ``<fusion>-<modalities>[-nosp][@flavour][,switch=value...]``:
``self-AVT``, ``cross-AT``, ``selfcross-AVT``, ``cross-AVT-nosp@released,masks=true``.
Modalities are letters: A audio, V video, T text. Two flavours:

- ``controlled`` (default): the published model with padding masks, scaled features and a
  projection of every frame, in float32;
- ``released``: the released model in all its oddities, each a switch of ``ModelConfig``.

Sizes are those of Rajan et al. (2022); with them, self-AVT@released has 1,645,892 parameters and
cross-AVT@released 1,820,132.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from mmer_lib.corpora.base import MODALITIES, Corpus
from mmer_lib.corpora.batches import Batch
from mmer_lib.encoders import FRONTS, EncoderConfig, SequenceEncoder
from mmer_lib.errors import InputError, check_number, check_whole, unknown
from mmer_lib.fusion import FUSIONS, QUERIES, Fused, FusionConfig, build_fusion
from mmer_lib.pooling import EPS, POOLINGS, concatenate, mean_pool, statistical_pool

LETTERS = {modality[0].upper(): modality for modality in MODALITIES}  # A, V, T
# Time steps (in, out) of the released time-mixing convolutions; text has none.
TIME_MIXING = {"audio": (1000, 500), "video": (32, 25)}
LARGEST = 1 << 16  # of any size: beyond it no machine could hold the model
SCALE = ("all", "audio", "none")


@dataclass(frozen=True)
class ModelConfig:
    """One configuration; the defaults are the paper's sizes and the ``controlled`` flavour.

    What ``controlled`` changes are the switches marked "Deviation:" and those beside them. Its
    audio and video GRUs read ``width`` numbers a frame, made by a projection, where the released
    ones read all features (2048 of video) behind a convolution over time: at published sizes
    self-AVT has 710,887 parameters and cross-AVT 885,127, not the 1,645,892 and 1,820,132 of
    ``released``. A flavour sets the model alone. Of the released code's other oddities, the kept
    epoch and the test part scored every epoch are ``TrainConfig.select`` and ``score_test``, the
    dropped utterances are ``processed(..., without_video="released")``.

    A switch of something that the configuration does not have changes nothing: ``text_dropout``
    without text, ``scale=audio`` without audio, ``std_first`` and ``sp_eps`` without statistical
    pooling. ``front`` beside ``time_mixing`` is refused, as it would seem to replace it.

    Raises ``InputError`` for names that are not known and numbers out of range.
    """

    name: str = "self-AVT"
    fusion: str = "self"
    modalities: tuple[str, ...] = MODALITIES
    pooling: str = "sp"  # over the vectors: sp, concat (-nosp, and where there is one), mean
    features: Mapping[str, int] = field(
        default_factory=lambda: {"audio": 120, "video": 2048, "text": 300}
    )
    lengths: Mapping[str, int] = field(
        default_factory=lambda: {"audio": 1000, "video": 32, "text": 128}
    )  # frames after padding, read only where something has a fixed length
    classes: int = 7
    width: int = 120  # D
    heads: int = 6
    hidden: int = 60
    attention_dropout: float = 0.1
    text_dropout: float = 0.25
    # Switches; their values in the released code are in FLAVOURS.
    masks: bool = True  # Deviation: the released code has none, padding is attended and averaged
    scale: str = "all"  # Deviation: the released code fits a scaling of audio and throws it away
    time_mixing: bool = False  # Deviation: the released convolution mixes time positions
    front: str = "project"  # of audio and video where time is not mixed: see encoders.FRONTS
    std_first: bool = False  # the released code pools to [std ; mean]
    sp_eps: float = EPS  # under the root of the deviation; the released code has none
    double: bool = False  # the released code computes in float64
    gru_dropout: float = 0.0  # the released code asks for .3, which torch ignores on one layer
    nonlinear_head: bool = False  # published: two linear layers with nothing between
    # Switches of the fusion: see fusion.base. 0: the fusion's own size.
    residual: bool = False  # add the query to what attention gives
    query: str = "own"  # who asks: own, shuffled (another utterance) or uniform (nobody)
    inner: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise unknown("fusion", self.fusion, FUSIONS)
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)
        if self.query not in QUERIES:
            raise unknown("choice for query:", self.query, QUERIES)
        _check_modalities(self.modalities)
        for name in ("width", "heads", "hidden", "classes"):
            if check_whole(name, getattr(self, name), at_least=1) > LARGEST:
                raise InputError(f"{name}={getattr(self, name)}: at most {LARGEST} expected")
        for name in ("attention_dropout", "text_dropout", "gru_dropout"):
            check_number(name, getattr(self, name), lambda x: 0 <= x < 1, "a share in [0, 1)")
        check_number("sp_eps", self.sp_eps, lambda x: 0 <= x < math.inf, "a number of at least 0")
        if self.scale not in SCALE:
            raise unknown("choice for scale:", self.scale, SCALE)
        if self.front not in FRONTS:
            raise unknown("encoder front", self.front, FRONTS)
        if self.front == "mix":
            raise InputError("front=mix needs fixed lengths: write time_mixing=true instead")
        if self.time_mixing and self.front != "project":
            raise InputError(
                f"front={self.front} has no effect beside time_mixing=true (of @released), which "
                f"is a front of its own: add time_mixing=false, or leave front out"
            )

    def for_corpus(self, corpus: Corpus) -> ModelConfig:
        """The same configuration with the corpus's classes, feature widths and padded lengths.

        Lengths are those the source was padded to, else of the longest utterance of all, test
        included; only a configuration that does not mask its padding reads them.

        Raises ``InputError`` for a modality that the corpus lacks.
        """
        corpus.require(self.modalities)
        lengths = {}
        for m in self.modalities:
            padded = corpus.recipe.get(m, {}).get("padded_length")
            lengths[m] = int(padded or max(1, corpus.features[m].lengths.max()))
        widths = {m: corpus.widths[m] for m in self.modalities}
        return replace(self, features=widths, lengths=lengths, classes=len(corpus.classes))

    @property
    def scaled(self) -> tuple[str, ...]:
        """The modalities whose features are standardised."""
        return tuple(m for m in self.modalities if self.scale in ("all", m))

    @property
    def pad_to(self) -> dict[str, int] | None:
        """Fixed lengths for batches, needed where padding is not masked."""
        return None if self.masks and not self.time_mixing else dict(self.lengths)

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and batches."""
        return torch.float64 if self.double else torch.float32

    def encoder(self, modality: str) -> EncoderConfig:
        """The encoder of one modality: text has no front end, as published."""
        front, mix = self.front, (0, 0)
        if modality == "text":
            front = "none"
        elif self.time_mixing:
            front, mix = "mix", mixed_steps(modality, self.lengths[modality])
        dropout = self.text_dropout if modality == "text" else 0.0
        return EncoderConfig(
            self.features[modality], self.width, front, mix, dropout, self.gru_dropout
        )

    def for_fusion(self) -> FusionConfig:
        """What the fusion needs of it."""
        return FusionConfig(
            self.modalities, self.width, self.heads, self.attention_dropout, self.inner, self.depth,
            self.residual, self.query, self.classes, self.hidden,
        )  # fmt: skip


def _check_modalities(modalities: Sequence[str]) -> None:
    if not modalities:
        raise InputError(f"no modality given: expected at least one of {', '.join(MODALITIES)}")
    for modality in modalities:
        if modality not in MODALITIES:
            raise unknown("modality", modality, MODALITIES)
    if len(set(modalities)) < len(modalities):
        raise InputError(f"a modality is given twice: {', '.join(modalities)}")


def mixed_steps(modality: str, length: int) -> tuple[int, int]:
    """Steps (in, out) of the time-mixing convolution, in the published proportion."""
    published_in, published_out = TIME_MIXING[modality]
    return length, max(1, round(length * published_out / published_in))


FLAVOURS: dict[str, dict[str, bool | float | str]] = {
    "controlled": {},
    "released": {
        "masks": False,
        "scale": "none",
        "time_mixing": True,
        "std_first": True,
        "sp_eps": 0.0,
        "double": True,
    },
}

PAPER_GRID = (
    "self-A", "self-V", "self-T", "self-AV", "self-AT", "self-VT", "self-AVT",
    "cross-AV", "cross-AT", "cross-VT", "cross-AVT",
    "self-AVT-nosp", "cross-AVT-nosp", "selfcross-AVT",
)  # fmt: skip

_GRAMMAR = re.compile(r"(?P<fusion>\w+)-(?P<letters>[A-Z]+)(?P<nosp>-nosp)?(?:@(?P<flavour>\w+))?")
_STRUCTURE = {"name", "fusion", "modalities", "features", "lengths", "classes"}
SWITCHES: dict[str, type[Any]] = {
    f.name: type(f.default) for f in fields(ModelConfig) if f.name not in _STRUCTURE
}


def parse_configuration(name: str, **overrides: object) -> ModelConfig:
    """The configuration called ``name`` (grammar above); ``overrides`` are switches by keyword.

    Switches in the name win over ``overrides``. Raises ``InputError`` with the nearest known name.
    """
    if not isinstance(name, str):
        raise InputError(f"{name!r} is no configuration: expected a name such as 'self-AVT'")
    head, *switches = name.split(",")
    match = _GRAMMAR.fullmatch(head)
    if not match:
        raise unknown("configuration", head, PAPER_GRID)
    modalities = _parse_letters(head, match["letters"])
    if match["fusion"] not in FUSIONS:
        raise unknown(f"fusion in {head!r}:", match["fusion"], FUSIONS)
    least = FUSIONS[match["fusion"]].least
    if len(modalities) < least:
        raise InputError(f"{head!r}: {match['fusion']} needs {least} modalities or more: use self")
    flavour = match["flavour"] or "controlled"
    if flavour not in FLAVOURS:
        raise unknown("flavour", flavour, FLAVOURS)
    written = _parse_switches(name, switches)
    if match["nosp"] and "pooling" in written:
        raise InputError(f"{name!r}: -nosp says pooling=concat already: leave one of them out")
    pooling = "concat" if match["nosp"] or len(modalities) == 1 else "sp"
    given = {"pooling": pooling, **FLAVOURS[flavour], **overrides, **written}
    chosen = {key: _switch(name, key, value) for key, value in given.items()}
    return ModelConfig(name, match["fusion"], modalities, **chosen)


def usable(names: Iterable[str], corpus: Corpus) -> list[str]:
    """Those of the configurations whose modalities the corpus has."""
    have = set(corpus.modalities)
    return [n for n in list_names(names) if set(parse_configuration(n).modalities) <= have]


def list_names(names: Iterable[str]) -> tuple[str, ...]:
    """Several configurations' names. Raises ``InputError`` for one that is not in a sequence."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        hint = f"; write one name as ({names!r},)" if isinstance(names, str) else ""
        raise InputError(f"configurations={names!r}: a sequence of names expected{hint}")
    return tuple(names)


def _parse_letters(name: str, letters: str) -> tuple[str, ...]:
    """``"AT"`` -> ``("audio", "text")``."""
    if not set(letters) <= set(LETTERS) or len(set(letters)) < len(letters):
        raise InputError(f"{name!r}: {letters!r} must be letters of AVT, each at most once")
    ordered = "".join(letter for letter in LETTERS if letter in letters)
    if letters != ordered:
        raise InputError(f"{name!r}: write the modalities in the order {ordered!r}")
    return tuple(LETTERS[letter] for letter in letters)


def _parse_switches(name: str, switches: list[str]) -> dict[str, str]:
    """``["width=32", "masks=true"]`` as a dict; what they mean is not looked at."""
    written: dict[str, str] = {}
    for switch in switches:
        key, _, text = (part.strip() for part in switch.partition("="))
        if key in written:
            raise InputError(f"{name!r}: the switch {key} is given twice")
        written[key] = text
    return written


def _switch(name: str, key: str, given: Any) -> Any:
    """The value of a switch, written as text or given as what it is, in the switch's type."""
    if key not in SWITCHES:
        raise unknown(f"switch in {name!r}:", key, SWITCHES)
    kind = SWITCHES[key]
    try:
        if kind is bool and isinstance(given, str):
            return {"true": True, "false": False}[given]
        value = kind(given)
        if not isinstance(given, str) and value != given:
            raise ValueError(f"{given} is no {kind}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}
        raise InputError(f"{name!r}: {key}={given} is not {wanted.get(kind, 'a word')}") from error
    return value


PRESETS: dict[str, dict[str, ModelConfig]] = {
    flavour: {name: parse_configuration(f"{name}@{flavour}") for name in PAPER_GRID}
    for flavour in FLAVOURS
}


@dataclass(frozen=True)
class Output:
    """Logits (B, C), what the fusion gave, and the masks (B, T) behind the encoders."""

    logits: Tensor
    fused: Fused
    masks: dict[str, Tensor]


class Recognizer(nn.Module):
    """Encoders, fusion, pooling over the modality vectors, two linear layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleDict(
            {m: SequenceEncoder(config.encoder(m)) for m in config.modalities}
        )
        self.fusion = build_fusion(config.fusion, config.for_fusion())
        n = self.fusion.n_vectors
        self.pooling = config.pooling if n > 1 else "concat"  # one vector has no deviation
        if not self.fusion.classifies:
            wide = {"sp": 2, "mean": 1, "concat": n}[self.pooling] * self.fusion.vector_width
            self.concat_linear = nn.Linear(wide, config.hidden)
            self.classifier = nn.Linear(config.hidden, config.classes)
        self.to(config.dtype)

    def forward(self, batch: Batch, need_weights: bool = False) -> Output:
        """A batch with every modality of the configuration -> logits (B, C) and ``Fused``."""
        sequences, masks = self.encode(batch)
        asking = None if batch.partner is None else self.encode(batch.partner)
        fused: Fused = self.fusion(sequences, masks, need_weights, asking)
        if fused.logits is not None:
            return Output(fused.logits, fused, masks)
        pooled = self.pool(fused)  # (B, 2D) or (B, n * D)
        hidden = self.concat_linear(pooled)
        if self.config.nonlinear_head:
            hidden = hidden.relu()
        return Output(self.classifier(hidden), fused, masks)

    def encode(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encoded sequences (B, T, D) and masks (B, T); all of it is data without ``masks``."""
        sequences, masks = {}, {}
        for m in self.config.modalities:
            mask = batch.masks[m] if self.config.masks else torch.ones_like(batch.masks[m])
            sequences[m], masks[m] = self.encoders[m](batch.sequences[m], mask)
        return sequences, masks

    def pool(self, fused: Fused) -> Tensor:
        """One vector an utterance: (B, n, D) -> (B, 2D), (B, D) or (B, n * D)."""
        if self.pooling == "concat":
            return concatenate(fused.vectors, fused.present)
        if self.pooling == "mean":
            return mean_pool(fused.vectors, fused.present)
        config = self.config
        return statistical_pool(fused.vectors, fused.present, config.sp_eps, config.std_first)


def count_parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def load_released_state_dict(model: Recognizer, state: Mapping[str, Tensor]) -> None:
    """Load a state dict whose keys are the released module names (``text_encoder.weight_ih_l0``).

    Raises ``InputError`` if a key is missing, left over or of another shape; then the model is
    unchanged.
    """
    wanted = model.state_dict()
    names = {_released_name(key): key for key in wanted}
    for given in state:
        if given not in names:
            raise unknown(f"key for {model.config.name!r} in the checkpoint:", given, names)
    missing = sorted(set(names) - set(state))
    if missing:
        raise InputError(
            f"the checkpoint lacks {missing[0]!r} ({len(missing)} keys in all) of "
            f"{model.config.name!r}: is it from the other model?"
        )
    for given, key in names.items():
        if state[given].shape != wanted[key].shape:
            raise InputError(
                f"checkpoint key {given!r} has shape {tuple(state[given].shape)}, "
                f"{model.config.name!r} expects {tuple(wanted[key].shape)}"
            )
    model.load_state_dict({key: state[given] for given, key in names.items()})


def _released_name(key: str) -> str:
    """Our parameter name in the released code's words: ``mha_x_y`` has source x and query y."""
    parts = key.split(".")
    if parts[0] == "encoders":
        suffix = "encoder" if parts[2] == "gru" else "conv"
        return ".".join([f"{parts[1]}_{suffix}", *parts[3:]])
    if parts[0] == "fusion":
        query, source = parts[2].split("_")
        name = f"mha_{source[0]}" if query == source else f"mha_{source[0]}_{query[0]}"
        return ".".join([name, *parts[3:]])
    return key

"""Configurations by name, and the recognizer they build."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from small import SIZES, SUBSETS, WIDTHS, learnable_corpus, small_corpus, small_model, whole_part
from torch.nn import functional as F

from mmer_lib.corpora import Corpus
from mmer_lib.errors import InputError
from mmer_lib.model import (
    FLAVOURS,
    PAPER_GRID,
    PRESETS,
    ModelConfig,
    Recognizer,
    count_parameters,
    parse_configuration,
    usable,
)
from mmer_lib.pooling import concatenate, statistical_pool

ALL_THREE = ("audio", "video", "text")


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("self-A", {"fusion": "self", "modalities": ("audio",), "pooling": "concat"}),
        ("cross-VT", {"fusion": "cross", "modalities": ("video", "text"), "pooling": "sp"}),
        ("selfcross-AVT", {"fusion": "selfcross", "modalities": ALL_THREE, "pooling": "sp"}),
        ("self-AVT-nosp", {"pooling": "concat", "masks": True, "double": False}),
        ("self-AVT@released", {"pooling": "sp", "masks": False, "double": True}),
        ("cross-AT-nosp@released", {"pooling": "concat", "std_first": True}),
        ("self-T@released,masks=true", {"masks": True, "double": True, "text_dropout": 0.25}),
        ("self-T,width=32,heads=4,text_dropout=0", {"width": 32, "heads": 4, "text_dropout": 0.0}),
        ("self-T, front = convolve", {"front": "convolve"}),
        ("self-T,sp_eps=1e-3", {"sp_eps": 0.001}),
        ("self-A@released,front=convolve,time_mixing=false", {"front": "convolve"}),
        ("cross-AV@released,scale=audio", {"scale": "audio", "scaled": ("audio",)}),
        ("cross-AV,scale=all", {"scaled": ("audio", "video")}),
        ("self-VT,scale=audio", {"scaled": ()}),
        ("self-AVT@released", {"scale": "none", "scaled": ()}),
    ],
)
def test_a_name_says_what_is_built(name, expected):
    config = parse_configuration(name)
    assert {key: getattr(config, key) for key in expected} == expected
    assert config.name == name


def test_the_flavour_is_controlled_unless_named():
    controlled = parse_configuration("self-AVT@controlled")
    assert vars(controlled) == {**vars(parse_configuration("self-AVT")), "name": controlled.name}


def test_a_switch_in_the_name_wins_over_one_by_keyword_and_that_over_the_flavour():
    config = parse_configuration("self-AVT@released,width=8", width=16, masks=True)
    assert (config.width, config.masks, config.scale) == (8, True, "none")


def test_switches_by_keyword_may_be_text_as_in_a_name():
    config = parse_configuration("self-AVT", width="32", masks="false", text_dropout=0)
    assert (config.width, config.masks, config.text_dropout) == (32, False, 0.0)
    assert type(config.text_dropout) is float


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slef-AVT", "unknown fusion in 'slef-AVT': 'slef': did you mean 'self'?"),
        ("cros-AT@released", "did you mean 'cross'?"),
        ("selfAVT", "unknown configuration 'selfAVT': did you mean 'self-AVT'?"),
        ("self-avt", "did you mean 'self-AVT'?"),
        ("", "unknown configuration ''"),
        ("self-AVT-nsp", "unknown configuration 'self-AVT-nsp': did you mean 'self-AVT-nosp'?"),
        ("self-AVT@relased", "unknown flavour 'relased': did you mean 'released'?"),
        ("self-AVT,mask=true", "unknown switch in 'self-AVT,mask=true': 'mask': did you mean"),
        ("self-AVT,fusion=cross", "unknown switch"),
        ("self-AVT,", "unknown switch"),
        ("self-AXT", "'AXT' must be letters of AVT, each at most once"),
        ("self-AAT", "'AAT' must be letters of AVT, each at most once"),
        ("self-TA", "'self-TA': write the modalities in the order 'AT'"),
        ("self-TVA@released", "in the order 'AVT'"),
        ("cross-A", "cross needs 2 modalities or more: use self"),
        ("self-AVT,masks=yes", "masks=yes is not true or false"),
        ("self-AVT,masks", "masks= is not true or false"),
        ("self-AVT,width=wide", "width=wide is not a whole number"),
        ("self-AVT,width=12.5", "width=12.5 is not a whole number"),
        ("self-AVT,text_dropout=some", "text_dropout=some is not a number"),
        ("self-AVT,width=0", "width=0: a whole number of at least 1 expected"),
        ("self-AVT,heads=-2", "heads=-2: a whole number of at least 1 expected"),
        ("self-AVT,scale=true", "unknown choice for scale: 'true': Known: all, audio, none"),
        ("self-AVT,scale=adio", "unknown choice for scale: 'adio': did you mean 'audio'?"),
        ("self-T,width=32,width=64", "the switch width is given twice"),
        ("self-T,width=32, width =32", "the switch width is given twice"),
        ("self-A@released,front=convolve", "front=convolve has no effect beside time_mixing=true"),
        ("self-A,front=none,time_mixing=true", "front=none has no effect beside time_mixing=true"),
        ("self-AVT,text_dropout=1", "text_dropout=1.0: a share in [0, 1) expected"),
        ("self-AVT,attention_dropout=-.1", "attention_dropout=-0.1: a share in [0, 1) expected"),
        ("self-AVT,gru_dropout=nan", "gru_dropout=nan: a share in [0, 1) expected"),
        ("self-AVT,sp_eps=-1", "sp_eps=-1.0: a number of at least 0 expected"),
        ("self-AVT,front=projct", "unknown encoder front 'projct': did you mean 'project'?"),
        ("self-AVT,front=mix", "write time_mixing=true instead"),
    ],
)
def test_a_wrong_name_is_told_in_one_line(name, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        parse_configuration(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"widht": 32}, "'widht': did you mean 'width'?"),
        ({"width": 32.5}, "width=32.5 is not a whole number"),
        ({"width": None}, "width=None is not a whole number"),
        ({"masks": 2}, "masks=2 is not true or false"),
    ],
)
def test_a_wrong_switch_by_keyword_is_told_in_the_same_way(switches, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse_configuration("self-AVT", **switches)


def test_the_config_refuses_an_unknown_fusion_and_pooling():
    with pytest.raises(InputError, match="unknown fusion 'crss'"):
        ModelConfig(fusion="crss")
    with pytest.raises(InputError, match="unknown pooling 'median'"):
        ModelConfig(pooling="median")


@pytest.mark.parametrize("given", [None, 3, ("self-AVT",)])
def test_a_name_that_is_no_text_is_told(given):
    with pytest.raises(InputError, match=re.escape(f"{given!r} is no configuration")):
        parse_configuration(given)


def test_one_name_where_several_are_expected_is_told_with_what_to_write():
    with pytest.raises(InputError, match=re.escape("write one name as ('self-AVT',)")):
        usable("self-AVT", small_corpus())
    with pytest.raises(InputError, match="a sequence of names expected"):
        usable(None, small_corpus())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modalities": ()}, "no modality given: expected at least one of audio, video, text"),
        ({"modalities": ("audio", "txt")}, "unknown modality 'txt': did you mean 'text'?"),
        ({"modalities": "audio"}, "unknown modality 'a'"),
        ({"modalities": ("text", "text")}, "a modality is given twice: text, text"),
        ({"width": "12"}, "width='12': a whole number of at least 1 expected"),
        ({"heads": 2.5}, "heads=2.5: a whole number"),
        ({"text_dropout": "0.1"}, "text_dropout='0.1': a share in [0, 1) expected"),
        ({"sp_eps": None}, "sp_eps=None: a number of at least 0 expected"),
    ],
)
def test_the_config_refuses_what_it_cannot_be_built_with(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        ModelConfig(**given)


def test_the_grid_is_every_cell_of_the_papers_tables_in_both_flavours():
    uni_and_more = {f"self-{letters}" for letters in ("A", "V", "T", "AV", "AT", "VT", "AVT")}
    pairs = {f"cross-{letters}" for letters in ("AV", "AT", "VT", "AVT")}
    ablation = {"self-AVT-nosp", "cross-AVT-nosp", "selfcross-AVT"}
    assert set(PAPER_GRID) == uni_and_more | pairs | ablation
    assert len(PAPER_GRID) == 14
    assert set(PRESETS) == set(FLAVOURS) == {"controlled", "released"}
    for flavour, presets in PRESETS.items():
        assert tuple(presets) == PAPER_GRID
        assert presets["cross-AT"] == parse_configuration(f"cross-AT@{flavour}")


# Fitted to a corpus


def test_a_configuration_takes_widths_lengths_and_classes_from_the_corpus():
    corpus = small_corpus()
    config = parse_configuration("cross-AT").for_corpus(corpus)
    assert config.features == {"audio": WIDTHS["audio"], "text": WIDTHS["text"]}
    assert config.classes == 3
    assert config.lengths == {m: corpus.features[m].lengths.max() for m in ("audio", "text")}
    assert config.pad_to is None  # with masks a batch is as long as its longest sequence


def test_fixed_lengths_are_those_of_the_source_where_it_was_padded():
    padded = parse_configuration("self-AVT@released").for_corpus(small_corpus(padded=True))
    assert padded.pad_to == {"audio": 20, "video": 6, "text": 9}


def test_a_modality_that_the_corpus_lacks_is_told():
    whole = small_corpus()
    silent = Corpus("silent", whole.classes, whole.utterances,
                    {m: whole.features[m] for m in ("video", "text")})  # fmt: skip
    with pytest.raises(InputError, match="'silent' has no audio: it has video, text"):
        parse_configuration("cross-AV").for_corpus(silent)
    assert parse_configuration("cross-VT").for_corpus(silent).modalities == ("video", "text")
    assert usable(PAPER_GRID, silent) == ["self-V", "self-T", "self-VT", "cross-VT"]


# The recognizer


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", PAPER_GRID)
def test_one_training_step_reaches_every_parameter(name, flavour):
    corpus = learnable_corpus(12, missing=0.2)
    model = small_model(f"{name}@{flavour}", corpus).train()
    part = whole_part(model, corpus)
    batch = part.collate(part.rows)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(0)
    output = model(batch)
    assert output.logits.shape == (12, 3)
    loss = F.cross_entropy(output.logits, batch.labels)
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key
    optimizer.step()
    assert all(not torch.equal(before[key], value) for key, value in model.state_dict().items())
    torch.manual_seed(0)
    assert F.cross_entropy(model(batch).logits, batch.labels) < loss


@pytest.mark.parametrize(
    "extra",
    [
        "",
        "@released",
        "@released,masks=true",
        "@released,time_mixing=false,masks=true",
        ",sp_eps=0",
    ],
)
@pytest.mark.parametrize(
    "name", ["self-T", "self-AVT", "cross-AT", "cross-AVT", "selfcross-AVT-nosp"]
)
def test_missing_modalities_never_give_a_nan(name, extra):
    corpus = small_corpus(16, missing=True)  # every subset of the modalities is missing
    assert any(all(len(r[i]) == 0 for r in corpus.features.values()) for i in range(16))
    model = small_model(name + extra, corpus)
    part = whole_part(model, corpus)
    output = model(part.collate(part.rows), need_weights=True)
    output.logits.square().sum().backward()
    assert output.logits.isfinite().all()
    for key, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", PAPER_GRID)
def test_an_utterance_alone_equals_itself_in_a_batch_of_longer_ones(name):
    corpus = small_corpus(8, missing=True)
    model = small_model(name + ",double=true", corpus)
    part = whole_part(model, corpus)
    together = model(part.collate(part.rows)).logits
    for i in range(8):
        alone = model(part.collate(part.rows[i : i + 1])).logits
        torch.testing.assert_close(alone[0], together[i])


@pytest.mark.parametrize("name", ["self-AVT", "cross-AVT-nosp"])
def test_junk_in_the_padding_of_a_batch_changes_nothing(name):
    corpus = small_corpus(8)
    model = small_model(name, corpus)
    part = whole_part(model, corpus)
    batch = part.collate(part.rows)
    before = model(batch).logits
    for m, x in batch.sequences.items():
        x[~batch.masks[m]] = 1e3
    assert torch.equal(model(batch).logits, before)


def test_cross_attention_answers_from_its_biases_where_one_of_two_modalities_is_missing():
    corpus = small_corpus(16, missing=True)
    lengths = {m: corpus.features[m].lengths for m in ("audio", "text")}
    silent = np.flatnonzero((lengths["audio"] > 0) & (lengths["text"] == 0))
    assert len(silent) > 1
    logits = {}
    for name in ("cross-AT", "self-AT"):
        model = small_model(name, corpus)
        output = model(whole_part(model, corpus).collate(silent))
        assert output.fused.present.any().item() == (name == "self-AT")
        logits[name] = output.logits
    assert torch.equal(logits["cross-AT"][0], logits["cross-AT"][1])
    assert not torch.allclose(logits["self-AT"][0], logits["self-AT"][1])


def test_pooling_follows_the_name():
    corpus = small_corpus(6)
    for name, expected in (("cross-AVT", 2), ("cross-AVT-nosp", 6), ("self-A", 1)):
        model = small_model(name, corpus)
        part = whole_part(model, corpus)
        fused = model(part.collate(part.rows)).fused
        assert model.concat_linear.in_features == expected * SIZES["width"]
        by_hand = statistical_pool if name == "cross-AVT" else concatenate
        assert torch.equal(model.pool(fused), by_hand(fused.vectors, fused.present))


@pytest.mark.parametrize("modalities", SUBSETS, ids=lambda s: "".join(m[0] for m in s))
def test_the_parameter_count_equals_its_formula(modalities):
    letters = "".join(m[0].upper() for m in modalities)
    model = small_model(f"self-{letters}", small_corpus())
    d, hidden = SIZES["width"], SIZES["hidden"]
    total = 0
    for m in modalities:
        features = WIDTHS[m] if m == "text" else d  # audio and video are projected first
        total += 0 if m == "text" else (WIDTHS[m] + 1) * d
        total += 2 * 3 * (d // 2) * (features + d // 2 + 2)  # two directions, three gates
        total += 4 * d * (d + 1)
    total += ((2 if len(modalities) > 1 else 1) * d + 1) * hidden + (hidden + 1) * 3
    assert count_parameters(model) == total


def test_sizes_that_do_not_fit_together_are_told():
    corpus = small_corpus()
    with pytest.raises(InputError, match="width=12 cannot be split into heads=5"):
        small_model("self-AVT", corpus, heads=5)
    with pytest.raises(InputError, match="width=9 must be even"):
        small_model("self-AVT", corpus, width=9)


def test_the_same_seed_builds_the_same_parameters_and_leaves_the_global_state_alone():
    corpus = small_corpus()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = (small_model("cross-AVT", corpus, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize(("name", "count"), [("self-AVT", 710_887), ("cross-AVT", 885_127)])
def test_a_controlled_model_of_published_size_is_as_large_as_documented(name, count):
    with torch.device("meta"):
        assert count_parameters(Recognizer(parse_configuration(name))) == count
    d, video, text = 120, 2048, 300

    def gru(features: int) -> int:
        return 2 * 3 * (d // 2) * (features + d // 2 + 2)

    encoders = (120 + 1) * d + (video + 1) * d + 2 * gru(d) + gru(text)
    attentions = (3 if name == "self-AVT" else 6) * 4 * d * (d + 1)
    assert encoders + attentions + (2 * d + 1) * 60 + 61 * 7 == count


def test_the_output_carries_the_masks_behind_the_encoders():
    corpus = small_corpus(8, missing=True)
    for name in ("cross-AT", "cross-AT@released", "cross-AT@released,masks=true"):
        model = small_model(name, corpus)
        part = whole_part(model, corpus)
        batch = part.collate(part.rows)
        encoded, masks = model.encode(batch)
        output = model(batch)
        for m, mask in output.masks.items():
            assert torch.equal(mask, masks[m])
            assert mask.shape == encoded[m].shape[:2]


def test_the_published_sizes_are_the_default():
    config = ModelConfig()
    assert (config.width, config.heads, config.hidden, config.classes) == (120, 6, 60, 7)
    assert (config.attention_dropout, config.text_dropout) == (0.1, 0.25)

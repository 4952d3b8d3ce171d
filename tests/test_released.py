"""The ``released`` flavour against two oracles that share no code with it.

1. A slow, obvious reference: plain loops over frames, heads and gates in numpy, no torch modules.
2. The modules of torch that the released code is made of, under their released names, which also
   give the state dicts: so names, shapes and counts come from outside the library.

Then every oddity of the released code that is a switch: what turning that switch alone changes.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import CLASSES, PADDED, SIZES, WIDTHS, randomize, small_config, small_corpus, whole_part
from torch import Tensor, nn

from mmer_lib.corpora import Corpus
from mmer_lib.errors import InputError
from mmer_lib.model import (
    ModelConfig,
    Recognizer,
    count_parameters,
    load_released_state_dict,
    parse_configuration,
)
from mmer_lib.sweep import make_parts

MIXED = {"audio": 10, "video": 5}  # steps behind the convolution: 20 * 500/1000, 6 * 25/32
PUBLISHED_WIDTHS = {"audio": 120, "video": 2048, "text": 300}
PUBLISHED_STEPS = {"audio": (1000, 500), "video": (32, 25)}
# (query, source) letters in the order in which the released code stacks its vectors
STACKED = {
    "self": ["tt", "vv", "aa"],
    "cross": ["ta", "tv", "vt", "va", "at", "av"],
}


def attention_name(pair: str) -> str:
    """The released name of an attention: ``mha_x_y`` has source x and query y."""
    query, source = pair
    return f"mha_{query}" if query == source else f"mha_{source}_{query}"


class Released(nn.Module):
    """The modules of torch that the released code is made of (self or cross, three modalities)."""

    def __init__(self, fusion, widths, steps, width, heads, hidden, classes) -> None:
        super().__init__()
        self.fusion = fusion

        def gru(features: int) -> nn.GRU:
            return nn.GRU(features, width // 2, batch_first=True, bidirectional=True)

        self.text_encoder = gru(widths["text"])
        self.video_conv = nn.Conv1d(*steps["video"], 1)
        self.video_encoder = gru(widths["video"])
        self.audio_conv = nn.Conv1d(*steps["audio"], 1)
        self.audio_encoder = gru(widths["audio"])
        for pair in STACKED[fusion]:
            attention = nn.MultiheadAttention(width, heads, dropout=0.1, batch_first=True)
            setattr(self, attention_name(pair), attention)
        self.concat_linear = nn.Linear(2 * width, hidden)
        self.classifier = nn.Linear(hidden, classes)
        self.double()

    def forward(self, padded: dict[str, Tensor]) -> Tensor:
        """Logits (B, C) of padded sequences (B, T, F)."""
        encoded = {
            "t": self.text_encoder(padded["text"])[0],
            "v": self.video_encoder(self.video_conv(padded["video"]))[0],
            "a": self.audio_encoder(self.audio_conv(padded["audio"]))[0],
        }
        vectors = []
        for pair in STACKED[self.fusion]:
            query, source = (encoded[letter] for letter in pair)
            attention = getattr(self, attention_name(pair))
            vectors.append(attention(query, source, source)[0].mean(dim=1))
        std, mean = torch.std_mean(torch.stack(vectors, dim=1), dim=1)
        return self.classifier(self.concat_linear(torch.cat([std, mean], dim=1)))


def released(fusion: str, seed: int = 0) -> Released:
    """Small, with random parameters and nothing left at zero."""
    steps = {m: (PADDED[m], MIXED[m]) for m in MIXED}
    module = Released(fusion, WIDTHS, steps, *SIZES.values(), classes=len(CLASSES))
    return randomize(module, seed).eval()


# The slow reference: one utterance, plain loops


class Reference:
    """The released forward pass, written out; ``state`` has the released names."""

    def __init__(self, fusion: str, state: dict[str, Tensor], heads: int) -> None:
        self.fusion = fusion
        self.state = {name: value.numpy() for name, value in state.items()}
        self.heads = heads

    def logits(self, padded: dict[str, np.ndarray]) -> np.ndarray:
        """Padded (T, F) of every modality -> (C,)."""
        encoded = {
            "t": self.gru("text_encoder", padded["text"]),
            "v": self.gru("video_encoder", self.conv("video_conv", padded["video"])),
            "a": self.gru("audio_encoder", self.conv("audio_conv", padded["audio"])),
        }
        vectors = []
        for pair in STACKED[self.fusion]:
            steps = self.attend(attention_name(pair), *(encoded[letter] for letter in pair))
            vectors.append(sum(steps) / len(steps))  # over ALL steps, padding included
        mean = sum(vectors) / len(vectors)
        std = np.sqrt(sum((v - mean) ** 2 for v in vectors) / (len(vectors) - 1))
        hidden = self.linear("concat_linear", np.concatenate([std, mean]))
        return self.linear("classifier", hidden)

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.state[f"{name}.weight"] @ x + self.state[f"{name}.bias"]

    def conv(self, name: str, x: np.ndarray) -> np.ndarray:
        """A convolution of kernel 1 whose channels are time steps: (T, F) -> (T', F)."""
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        out = np.zeros((len(bias), x.shape[1]))
        for o in range(len(bias)):
            for t in range(len(x)):
                out[o] += weight[o, t, 0] * x[t]
            out[o] += bias[o]
        return out

    def gru(self, name: str, x: np.ndarray) -> np.ndarray:
        """Both directions side by side: (T, F) -> (T, D)."""
        forward = self.gru_direction(f"{name}.{{}}_l0", x)
        backward = self.gru_direction(f"{name}.{{}}_l0_reverse", x[::-1])
        return np.concatenate([forward, backward[::-1]], axis=1)

    def gru_direction(self, name: str, x: np.ndarray) -> np.ndarray:
        """r, z and n gates in torch's order and with torch's place for r."""
        w_i, w_h = self.state[name.format("weight_ih")], self.state[name.format("weight_hh")]
        b_i, b_h = self.state[name.format("bias_ih")], self.state[name.format("bias_hh")]
        h = np.zeros(w_h.shape[1])
        states = []
        for frame in x:
            i_r, i_z, i_n = np.split(w_i @ frame + b_i, 3)
            h_r, h_z, h_n = np.split(w_h @ h + b_h, 3)
            r, z = sigmoid(i_r + h_r), sigmoid(i_z + h_z)
            n = np.tanh(i_n + r * h_n)
            h = (1 - z) * n + z * h
            states.append(h)
        return np.stack(states)

    def attend(self, name: str, query: np.ndarray, source: np.ndarray) -> list[np.ndarray]:
        """Multi-head attention, a query step and a head at a time: Tq outputs of width D."""
        w_q, w_k, w_v = np.split(self.state[f"{name}.in_proj_weight"], 3)
        b_q, b_k, b_v = np.split(self.state[f"{name}.in_proj_bias"], 3)
        size = len(w_q) // self.heads
        outputs = []
        for step in query:
            mixed = []
            for head in range(self.heads):
                part = slice(head * size, (head + 1) * size)
                q = w_q[part] @ step + b_q[part]
                keys = [w_k[part] @ frame + b_k[part] for frame in source]
                scores = np.exp([q @ k / np.sqrt(size) for k in keys])
                values = [w_v[part] @ frame + b_v[part] for frame in source]
                mixed.append(sum(s * v for s, v in zip(scores, values, strict=True)) / sum(scores))
            outputs.append(self.linear(f"{name}.out_proj", np.concatenate(mixed)))
        return outputs


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def padded_by_hand(corpus: Corpus, i: int) -> dict[str, np.ndarray]:
    """Utterance i as the released code reads it: fixed lengths, the source's padding frame."""
    padded = {}
    for m in corpus.modalities:
        frames = corpus.features[m][i]
        padding = corpus.recipe[m].get("padding", np.zeros(WIDTHS[m]))
        padded[m] = np.tile(np.asarray(padding, np.float32), (PADDED[m], 1))
        padded[m][: len(frames)] = frames
    return {m: x.astype(np.float64) for m, x in padded.items()}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Source-padded utterances, two of which lack a video; text padding is not zero."""
    made = small_corpus(5, seed=3, padded=True)
    video = [x if i % 3 else x[:0] for i, x in enumerate(made.features["video"])]
    made.features["video"] = type(made.features["video"]).from_list(video, WIDTHS["video"])
    return made


def ours(fusion: str, corpus: Corpus, state: dict[str, Tensor], **switches) -> Recognizer:
    model = Recognizer(small_config(f"{fusion}-AVT@released", corpus, **switches)).eval()
    load_released_state_dict(model, state)
    return model


both = pytest.mark.parametrize("fusion", ["self", "cross"])


# The numbers


@both
def test_the_model_agrees_with_the_slow_reference(fusion, corpus):
    state = released(fusion).state_dict()
    model = ours(fusion, corpus, state)
    part = whole_part(model, corpus)
    with torch.no_grad():
        logits = model(part.collate(part.rows)).logits.numpy()
    reference = Reference(fusion, state, SIZES["heads"])
    expected = np.stack([reference.logits(padded_by_hand(corpus, i)) for i in range(len(corpus))])
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-10)
    assert np.ptp(expected, axis=0).min() > 0.01  # the utterances do differ


@both
def test_the_model_agrees_with_torchs_modules(fusion, corpus):
    theirs = released(fusion, seed=1)
    model = ours(fusion, corpus, theirs.state_dict())
    part = whole_part(model, corpus)
    padded = [padded_by_hand(corpus, i) for i in range(len(corpus))]
    with torch.no_grad():
        logits = model(part.collate(part.rows)).logits
        stacked = {m: torch.from_numpy(np.stack([x[m] for x in padded])) for m in WIDTHS}
        expected = theirs(stacked)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)


@both
def test_forming_the_attention_weights_changes_no_number(fusion, corpus):
    model = ours(fusion, corpus, released(fusion).state_dict())
    part = whole_part(model, corpus)
    batch = part.collate(part.rows)
    torch.testing.assert_close(
        model(batch, need_weights=True).logits, model(batch).logits, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("fusion", "published"), [("self", 1_645_892), ("cross", 1_820_132)])
def test_the_published_sizes_have_the_published_number_of_parameters(fusion, published):
    theirs = Released(fusion, PUBLISHED_WIDTHS, PUBLISHED_STEPS, 120, 6, 60, 7)
    model = Recognizer(parse_configuration(f"{fusion}-AVT@released"))
    load_released_state_dict(model, randomize(theirs).state_dict())  # so every name and shape fits
    assert count_parameters(model) == count_parameters(theirs) == published
    parts = {
        "audio_conv": 500_500, "audio_encoder": 65_520, "video_conv": 825,
        "video_encoder": 759_600, "text_encoder": 130_320, "concat_linear": 14_460,
        "classifier": 427,
    }  # fmt: skip
    modules = {f"{m}_{name}": getattr(model.encoders[m], part) for m in WIDTHS
               for name, part in (("conv", "front"), ("encoder", "gru"))}  # fmt: skip
    modules |= {"concat_linear": model.concat_linear, "classifier": model.classifier}
    assert {name: count_parameters(modules[name]) for name in parts} == parts
    assert {count_parameters(a) for a in model.fusion.attentions.values()} == {58_080}
    assert sum(count_parameters(e) for e in model.encoders.values()) == 1_456_765


# Loading a checkpoint


@both
def test_a_loaded_checkpoint_comes_back_under_the_released_names(fusion, corpus):
    state = released(fusion).state_dict()
    values = [v.sum().item() for v in ours(fusion, corpus, state).state_dict().values()]
    assert sorted(values) == sorted(v.sum().item() for v in state.values())


def spoil(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    if how == "misspelt":
        state["text_encodr.bias_hh_l0"] = state.pop("text_encoder.bias_hh_l0")
    elif how == "missing":
        del state["mha_a.in_proj_bias"]
    elif how == "shape":
        state["classifier.weight"] = state["classifier.weight"][:2]
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("misspelt", "'text_encodr.bias_hh_l0': did you mean 'text_encoder.bias_hh_l0'"),
        ("missing", "lacks 'mha_a.in_proj_bias' .1 keys in all. of 'self-AVT@released'"),
        ("shape", r"'classifier.weight' has shape \(2, 5\), .* expects \(3, 5\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(corpus, how, message):
    model = ours("self", corpus, released("self").state_dict())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=message) as raised:
        load_released_state_dict(model, spoil(released("self", seed=9).state_dict(), how))
    assert "\n" not in str(raised.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_checkpoint_of_the_other_model_is_refused(corpus):
    with pytest.raises(InputError, match=r"unknown key for 'self-AVT@released'.* 'mha_"):
        ours("self", corpus, released("cross").state_dict())
    without = {k: v for k, v in released("self").state_dict().items() if "mha" not in k}
    with pytest.raises(InputError, match="is it from the other model"):
        ours("cross", corpus, without)


# Every switch alone


def outputs(name: str, corpus: Corpus, **switches) -> Tensor:
    """Logits of ``name`` with one and the same released state."""
    fusion = name.split("-")[0]
    model = ours(fusion, corpus, released(fusion).state_dict(), **switches)
    part = whole_part(model, corpus)
    with torch.no_grad():
        return model(part.collate(part.rows)).logits


def test_the_released_flavour_is_these_switches_and_no_others():
    released_config, controlled = parse_configuration("self-AVT@released"), ModelConfig()
    changed = {
        f: getattr(released_config, f)
        for f in vars(controlled)
        if getattr(released_config, f) != getattr(controlled, f)
    }
    assert changed == {
        "name": "self-AVT@released", "masks": False, "scale": "none", "time_mixing": True,
        "std_first": True, "sp_eps": 0.0, "double": True,
    }  # fmt: skip


@both
def test_std_first_only_permutes_the_pooled_vector(fusion, corpus):
    state = released(fusion).state_dict()
    model, other = ours(fusion, corpus, state), ours(fusion, corpus, state, std_first=False)
    part = whole_part(model, corpus)
    batch = part.collate(part.rows)
    pooled, swapped = model.pool(model(batch).fused), other.pool(other(batch).fused)
    assert torch.equal(swapped, pooled.roll(SIZES["width"], dims=1))
    assert not torch.allclose(model(batch).logits, other(batch).logits)
    halves = state["concat_linear.weight"].chunk(2, dim=1)  # the same permutation undoes it
    load_released_state_dict(other, state | {"concat_linear.weight": torch.cat(halves[::-1], 1)})
    torch.testing.assert_close(other(batch).logits, model(batch).logits, rtol=0, atol=1e-12)


def with_other_padding(corpus: Corpus, modality: str) -> Corpus:
    """The same frames with padding of ones in one modality."""
    recipe = {m: dict(about) for m, about in corpus.recipe.items()}
    recipe[modality]["padding"] = [1.0] * WIDTHS[modality]
    return Corpus(corpus.name, corpus.classes, corpus.utterances, corpus.features, recipe)


@both
@pytest.mark.parametrize("modality", ["audio", "video", "text"])
def test_without_masks_the_padding_is_read_and_with_masks_it_is_not(fusion, modality, corpus):
    other = with_other_padding(corpus, modality)
    name = f"{fusion}-AVT@released"
    assert not torch.allclose(outputs(name, corpus), outputs(name, other))
    for setting in ({"time_mixing": False}, {"time_mixing": False, "masks": True}):
        model = Recognizer(small_config(name, corpus, **setting))
        randomize(model).eval()
        part, changed = whole_part(model, corpus), whole_part(model, other)
        before = model(part.collate(part.rows)).logits
        after = model(changed.collate(changed.rows)).logits
        assert torch.allclose(before, after) == ("masks" in setting)


@both
def test_time_mixing_reads_the_padding_even_with_masks(fusion, corpus):
    name, other = f"{fusion}-AVT@released", with_other_padding(corpus, "audio")
    assert not torch.allclose(outputs(name, corpus, masks=True), outputs(name, other, masks=True))


def test_masks_change_the_output_only_of_utterances_with_padding(corpus):
    full = small_corpus(3, seed=5, padded=True)
    rng = np.random.default_rng(0)
    for m, width in WIDTHS.items():
        frames = [rng.standard_normal((PADDED[m], width)) for _ in range(3)]
        full.features[m] = type(full.features[m]).from_list(frames, width)
    name = "cross-AVT@released"
    torch.testing.assert_close(outputs(name, full, masks=True), outputs(name, full))
    assert not torch.allclose(outputs(name, corpus, masks=True), outputs(name, corpus))


@pytest.mark.parametrize(
    ("scale", "scaled"), [("none", ""), ("audio", ["audio"]), ("all", ["audio", "video", "text"])]
)
def test_scale_standardises_these_modalities_on_the_training_part_and_leaves_others(scale, scaled):
    corpus = small_corpus(24)
    for m, ragged in corpus.features.items():
        corpus.features[m] = type(ragged)(3 * ragged.values + 2, ragged.offsets)
    fold = corpus.folds("random", 3)[0]
    parts = make_parts(small_config("self-AVT@released", corpus, scale=scale), fold, corpus)
    batch = parts["train"].collate(fold.train)
    for m, x in batch.sequences.items():
        real = x[batch.masks[m]]
        (mean, std), error = ((0.0, 1.0), 1e-5) if m in scaled else ((2.0, 3.0), 0.5)
        assert real.mean().item() == pytest.approx(mean, abs=error)
        assert real.std(correction=0).item() == pytest.approx(std, abs=error)


def test_time_mixing_gives_fixed_steps_in_the_published_proportion(corpus):
    model = ours("cross", corpus, released("cross").state_dict())
    part = whole_part(model, corpus)
    encoded, masks = model.encode(part.collate(part.rows))
    assert {m: x.shape[1] for m, x in encoded.items()} == {**MIXED, "text": PADDED["text"]}
    assert all(mask.all() for mask in masks.values())
    config = small_config("cross-AVT@released", corpus, time_mixing=False)
    part = whole_part(Recognizer(config), corpus)
    encoded, _ = Recognizer(config).encode(part.collate(part.rows))
    assert {m: x.shape[1] for m, x in encoded.items()} == PADDED


def test_time_mixing_makes_the_order_of_frames_a_permutation_of_its_weights(corpus):
    state = released("self").state_dict()
    model = ours("self", corpus, state)
    part = whole_part(model, corpus)
    batch = part.collate(part.rows)
    before = model(batch).logits
    batch.sequences["audio"] = batch.sequences["audio"].flip(1)  # time runs backwards
    assert not torch.allclose(model(batch).logits, before)
    backwards = state | {"audio_conv.weight": state["audio_conv.weight"].flip(1)}
    torch.testing.assert_close(ours("self", corpus, backwards)(batch).logits, before)


def test_double_decides_the_precision_of_parameters_and_batches(corpus):
    for double, dtype in ((True, torch.float64), (False, torch.float32)):
        model = Recognizer(small_config("self-AVT@released", corpus, double=double))
        part = whole_part(model, corpus)
        batch = part.collate(part.rows)
        assert {x.dtype for x in batch.sequences.values()} == {dtype}
        assert model(batch).logits.dtype == dtype
    single = outputs("self-AVT@released", corpus, double=False)
    torch.testing.assert_close(
        single.double(), outputs("self-AVT@released", corpus), rtol=1e-3, atol=1e-3
    )


def test_sp_eps_zero_is_the_plain_deviation(corpus):
    plain, eps = (outputs("self-AVT@released", corpus, sp_eps=e) for e in (0.0, 1.0))
    assert not torch.allclose(plain, eps)
    near = outputs("self-AVT@released", corpus, sp_eps=1e-12)
    torch.testing.assert_close(near, plain, rtol=0, atol=1e-5)


def test_torch_ignores_dropout_on_one_gru_layer_so_the_released_one_is_zero(corpus):
    plain = randomize(nn.GRU(4, 3, batch_first=True))
    with pytest.warns(UserWarning, match="dropout"):
        dropping = nn.GRU(4, 3, batch_first=True, dropout=0.3)
    dropping.load_state_dict(plain.state_dict())
    x = torch.ones(2, 5, 4)
    assert torch.equal(dropping.train()(x)[0], plain(x)[0])
    assert parse_configuration("self-AVT@released").gru_dropout == 0.0


@pytest.mark.parametrize("switch", ["gru_dropout", "text_dropout", "attention_dropout"])
def test_each_dropout_acts_while_training_and_only_then(switch, corpus):
    off = {"gru_dropout": 0.0, "text_dropout": 0.0, "attention_dropout": 0.0}
    state = released("self").state_dict()
    model = ours("self", corpus, state, **{**off, switch: 0.5})
    part = whole_part(model, corpus)
    batch = part.collate(part.rows)
    expected = ours("self", corpus, state, **off)(batch).logits
    assert torch.equal(model(batch).logits, expected)
    torch.manual_seed(0)
    assert not torch.allclose(model.train()(batch).logits, expected)


def test_the_published_head_is_one_linear_map_and_the_switch_bends_it(corpus):
    state = released("self").state_dict()
    straight = ours("self", corpus, state)
    bent = ours("self", corpus, state, nonlinear_head=True)
    part = whole_part(straight, corpus)
    output = straight(part.collate(part.rows))
    pooled = straight.pool(output.fused)
    first, second = straight.concat_linear, straight.classifier
    joined = second.weight @ first.weight  # (C, 2D): its rank is at most that of the classes
    assert torch.linalg.matrix_rank(joined) == min(len(CLASSES), SIZES["hidden"])
    torch.testing.assert_close(
        output.logits, pooled @ joined.T + second.weight @ first.bias + second.bias
    )
    torch.testing.assert_close(
        bent(part.collate(part.rows)).logits, second(first(pooled).clamp(min=0))
    )


def test_released_models_run_on_a_corpus_without_video(corpus):
    only = Corpus("two", corpus.classes, corpus.utterances,
                  {m: corpus.features[m] for m in ("audio", "text")}, corpus.recipe)  # fmt: skip
    model = Recognizer(small_config("cross-AT@released", only)).eval()
    part = whole_part(model, only)
    assert model(part.collate(part.rows)).logits.isfinite().all()

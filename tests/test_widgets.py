"""The explorers without a browser: controls move, picture and sentence follow, the data fit.

What their scripts do with the data is tested in a browser: test_widgets_scripts.py.
"""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from itertools import product

import ipywidgets as W
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from explorers import CORPUS, KINDS, PAIRS, controls_of, runs_table, show, trained, zoo_tables
from small import small_corpus, small_model, whole_part

from mmer_lib import maps, plots, widgets
from mmer_lib.corpora import Corpus
from mmer_lib.corpora.media import Extraction, Listing, build_corpus
from mmer_lib.errors import InputError
from mmer_lib.features.base import Clip, Unreadable
from mmer_lib.pipeline.notebooks import _name_widgets
from mmer_lib.plots.mechanism import attend
from mmer_lib.plots.reading import row_entropy
from mmer_lib.stats import compare
from mmer_lib.widgets.attention import bin_map, look_at, nearest_pair
from mmer_lib.widgets.base import LARGEST, Book, Explorer, pack

VIEW = "application/vnd.jupyter.widget-view+json"
each_kind = pytest.mark.parametrize("kind", KINDS)


def values_of(control) -> list:
    """All choices of a control, or the ends of its range."""
    if hasattr(control, "options"):
        return [value for _, value in control._options_full]
    if isinstance(control.value, bool):
        return [False, True]
    if isinstance(control, W.BoundedFloatText):
        return [control.value, control.max if control.value < control.max else control.min]
    return [control.min, control.max]


def unpack(packed: dict) -> np.ndarray:
    small = np.frombuffer(b64decode(packed["data"]), np.uint8).reshape(packed["shape"])
    return packed["scale"] * small / 255


# -- all of them -----------------------------------------------------------------------------------


@each_kind
def test_every_control_moves_through_its_range_and_the_picture_follows(kind):
    box = show(kind)
    picture, said = box.children[-2:]
    for name, control in controls_of(box).items():
        seen = set()
        for value in values_of(control):
            control.value = value
            assert bytes(picture.value).startswith(b"\x89PNG")
            assert "data-" in said.value
            seen.add((bytes(picture.value), said.value))
        assert len(seen) > 1, f"{kind}: nothing follows {name}"


@each_kind
def test_every_control_has_a_label_and_a_class_of_its_own(kind):
    controls = controls_of(show(kind))
    assert controls
    assert all(control.description for control in controls.values())
    assert len({c._dom_classes[-1] for c in controls.values()}) == len(controls)


@each_kind
def test_its_bundle_carries_a_line_and_data_for_the_book_that_are_small_and_plain(kind):
    bundle = show(kind)._repr_mimebundle_()
    told = bundle[widgets.MIME]
    assert told["kind"] == kind
    assert VIEW in bundle
    assert bundle["text/plain"] == f"{told['title']}: {told['text']}"
    written = json.dumps(told, allow_nan=False)
    assert len(written) < LARGEST
    assert json.loads(written)["data"]


@each_kind
def test_a_notebook_keeps_the_books_data_when_the_view_is_dropped(kind):
    output = {"data": show(kind)._repr_mimebundle_()}
    _name_widgets([output])
    assert VIEW not in output["data"]
    assert output["data"][widgets.MIME]["kind"] == kind


def test_there_is_a_script_for_each_kind_and_none_other():
    assert set(KINDS) == set(widgets.SCRIPTED)
    for kind in KINDS:
        assert f"mmer.explorers.{kind} = " in widgets.script(kind)
    with pytest.raises(InputError, match="unknown kind of explorer"):
        widgets.script("clock")


def test_scripts_ask_no_network_and_evaluate_no_text():
    for kind in ("common", *KINDS):
        source = widgets.script(kind)
        for word in ("http:", "https:", "fetch(", "XMLHttp", "eval(", "Function(", "innerHTML"):
            assert word not in source, f"{kind}.js: {word}"


def test_data_too_large_for_the_book_are_refused():
    with pytest.raises(InputError, match=r"bytes of data for the book, at most 150,000"):
        Explorer([], Book("qkv", "t", "t", ["x" * LARGEST]))


def test_packed_numbers_are_the_same_to_half_a_255th():
    numbers = np.random.default_rng(0).uniform(0, 3, (2, 5, 4))
    packed = pack(numbers)
    assert packed["shape"] == [2, 5, 4]
    assert abs(unpack(packed) - numbers).max() <= packed["scale"] / 509
    assert unpack(pack(np.zeros((2, 2)))).tolist() == [[0, 0], [0, 0]]


# -- attention -------------------------------------------------------------------------------------


def test_the_books_maps_entropy_and_padding_are_the_librarys():
    models = trained()
    data = widgets.attention_explorer(models, [0, 1]).book.data
    for (i, row), (name, (model, part)) in product(enumerate([0, 1]), models.items()):
        there = maps.attention_maps(model, part, row)
        entropies = maps.entropy_frame(model, part, np.array([row]))
        told = data["utterances"][i]["maps"][name]["pairs"]
        assert list(told) == [f"{q}>{s}" for q, s in there]
        for (q, s), weights in there.items():
            packed = told[f"{q}>{s}"]
            got = unpack(packed["weights"])
            assert abs(got - weights).max() <= packed["weights"]["scale"] / 500
            mine = entropies[(entropies["query"] == q) & (entropies["source"] == s)]["entropy"]
            heads = unpack(packed["entropy"])[1:].mean(axis=1)  # the mean of heads comes first
            np.testing.assert_allclose(heads, mine, atol=1 / 255)


def test_padding_mass_is_what_lies_behind_the_real_frames_and_unknown_where_time_is_mixed():
    name = "cross-AVT@released"
    corpus = small_corpus(padded=True)
    model = small_model(f"{name},time_mixing=false", corpus)
    look = look_at(model, whole_part(model, corpus), 0)["text", "audio"]
    real = int(corpus.features["audio"].lengths[0])
    assert look.source.real == real < look.weights.shape[2]
    figure = plots.attention_reading(look.head(0), look.query, look.source)
    behind = look.head(0)[0, real:].sum()
    assert any(f"this row {behind:.2f}" in t.get_text() for ax in figure.axes for t in ax.texts)
    mixed = small_model(name, corpus)
    data = widgets.attention_explorer({name: (mixed, whole_part(mixed, corpus))}, [0]).book.data
    one = data["utterances"][0]["maps"][name]
    assert one["pairs"]["text>audio"]["padding"] is None
    assert one["pairs"]["audio>text"]["padding"] is not None
    assert one["axes"]["audio"]["unit"] == "steps that mix all of time"


def test_axes_are_seconds_where_the_corpus_knows_the_clock_and_words_where_they_are_known():
    corpus = small_corpus()
    n = int(corpus.features["text"].lengths[0])
    texts = corpus.utterances.assign(text=["w " * int(k) for k in corpus.features["text"].lengths])
    events = pd.DataFrame({"id": ["u0"], "modality": "audio", "frame": 0, "role": "answer"})
    corpus = replace(
        corpus, utterances=texts, recipe={"audio": {"rate": 50.0}},
        events=events.assign(key=0, value=0),
    )  # fmt: skip
    model = small_model("cross-AVT", corpus)
    look = look_at(model, whole_part(model, corpus), 0)["text", "audio"]
    assert (look.query.unit, look.source.unit) == ("words", "seconds")
    assert look.query.words == ("w",) * n
    assert look.source.say(1) == "0.03 s"
    assert look.source.events["role"].tolist() == ["answer"]


def test_the_query_and_source_follow_what_a_model_has():
    box = widgets.attention_explorer(trained(), [0, 1])
    controls = controls_of(box)
    controls["model"].value = "self-AVT"
    assert controls["query"].value == controls["source"].value
    controls["source"].value = "video"
    assert controls["query"].value == "video"
    controls["model"].value = "cross-AVT"
    assert controls["query"].value != controls["source"].value
    assert 'data-model="cross-AVT"' in box.children[-1].value


def test_the_nearest_pair_keeps_what_was_moved():
    pairs = [("audio", "text"), ("text", "audio"), ("video", "text")]
    assert nearest_pair(pairs, "text", "audio", "head") == ("text", "audio")
    assert nearest_pair(pairs, "text", "text", "query") == ("text", "audio")
    assert nearest_pair(pairs, "text", "text", "source") == ("audio", "text")
    assert nearest_pair([], "text", "audio", "query") is None


def test_an_utterance_without_any_map_is_told_of_and_not_raised():
    corpus = small_corpus(missing=True)
    model = small_model("cross-AT", corpus)
    rows = [7, 0]  # all there; no audio, so that cross-AT has no pair
    box = widgets.attention_explorer({"cross-AT": (model, whole_part(model, corpus))}, rows)
    controls_of(box)["utterance"].value = 1
    assert "Nothing to draw" in box.children[-1].value
    controls_of(box)["utterance"].value = 0
    assert 'data-query="text"' in box.children[-1].value


def test_long_sequences_are_binned_until_the_book_can_hold_them():
    weights = np.random.default_rng(1).dirichlet(np.ones(300), (6, 200))  # (H, Tq, Ts)
    small = bin_map(weights, 4, 5)
    assert small.shape == (6, 50, 60)
    np.testing.assert_allclose(small.sum(axis=2), 1)
    np.testing.assert_allclose(small[2, 3, 7], weights[2, 12:16, 35:40].sum(axis=1).mean())
    corpus = long_corpus()
    model = small_model("cross-AVT", corpus, heads=6)
    box = widgets.attention_explorer({"cross-AVT": (model, whole_part(model, corpus))}, range(4))
    told = box.book.data["utterances"]
    assert 1 <= len(told) <= 4
    axis = told[0]["maps"]["cross-AVT"]["axes"]["audio"]
    assert axis["stride"] * axis["n"] >= 300 > axis["stride"] * (axis["n"] - 1)


def long_corpus() -> Corpus:
    from mmer_lib.corpora import Ragged

    rng = np.random.default_rng(0)
    long = {m: [rng.standard_normal((300, 3)) for _ in range(4)] for m in ("audio", "video")}
    features = {m: Ragged.from_list(x, 3) for m, x in long.items()}
    features["text"] = Ragged.from_list([rng.standard_normal((9, 3)) for _ in range(4)], 3)
    table = pd.DataFrame({"id": list("abcd"), "label": [0, 1, 0, 1]})
    return Corpus("long", ("no", "yes"), table, features)


def test_a_map_for_the_figure_is_read_by_names_and_a_missing_one_is_named():
    model, part = trained()["cross-AVT"]
    given = widgets.read_map(model, part, 0, "text", "audio", head=2)
    there = maps.attention_maps(model, part, 0)["text", "audio"]
    np.testing.assert_array_equal(given["weights"], there[1])
    assert plots.attention_reading(**given, step=1)
    with pytest.raises(InputError, match="no map of text asks text; it has audio asks video"):
        widgets.read_map(model, part, 0, "text", "text")
    with pytest.raises(InputError, match=r"head=4: 1 \.\. 3"):
        widgets.read_map(model, part, 0, "text", "audio", head=4)
    with pytest.raises(InputError, match="at least one model"):
        widgets.attention_explorer({}, [0])


def test_entropy_is_one_for_equal_weights_and_zero_for_one_frame():
    assert row_entropy([[0.25] * 4, [0, 1, 0, 0]]).tolist() == [1.0, 0.0]
    assert row_entropy([[1.0]]).tolist() == [0.0]
    np.testing.assert_allclose(row_entropy([[0.25, 0.25]]), 1.0)  # half of a joint attention


# -- the playground and the pooling identity -------------------------------------------------------


def test_attention_by_steps_is_torchs_and_masked_keys_are_not_read():
    q, k, v = (np.random.default_rng(i).normal(size=(4, 2)) for i in range(3))
    theirs = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)))
    np.testing.assert_allclose(attend(q, k, v).output, theirs.numpy())
    mask = [True, False, True, True]
    masked = attend(q, k, v, mask=mask)
    assert (masked.weights[:, 1] == 0).all()
    np.testing.assert_allclose(masked.output, attend(q, k[mask], v[mask]).output)
    assert (attend(q, k, v, mask=[False] * 4).output == 0).all()
    assert row_entropy(attend(q, k, v, 5.0).weights).mean() > row_entropy(masked.weights).mean()


def test_the_playground_says_what_the_numbers_give():
    box = widgets.qkv_playground()
    fields = controls_of(box)
    for name, field in fields.items():
        if name[0] == "v":
            field.value = 9.0
    assert "gets (9.00, 9.00)" in box.children[-1].value, "all values are 9, so is any mixture"
    fields["k31"].value, fields["q11"].value, fields["temperature"].value = -9.0, -9.0, 0.1
    assert "q1 reads k3 most" in box.children[-1].value
    for j in range(1, 5):
        fields[f"mask{j}"].value = False
    assert "No key may be read" in box.children[-1].value


def test_wherever_the_query_is_its_answer_is_a_mixture_of_the_frames():
    box = widgets.pooling_explorer()
    first, second = controls_of(box).values()
    frames = np.array(widgets.pooling.FRAMES)
    for x, y in product([first.min, first.max], repeat=2):
        first.value, second.value = x, y
        found = attend([[x, y], *widgets.pooling.QUERIES[1:]], frames, frames)
        assert (found.weights >= 0).all()
        np.testing.assert_allclose(found.weights.sum(axis=1), 1)
        a, b = found.output[0]
        assert f'data-answer="{a:.2f} {b:.2f}"' in box.children[-1].value


# -- folds, verdict, zoo ---------------------------------------------------------------------------


def test_parts_of_a_fold_are_counted_by_group_and_class():
    fold = CORPUS.folds("by-speaker", 4)[1]
    counted = widgets.count_parts(CORPUS, fold)
    sizes = {part: len(getattr(fold, part)) for part in ("train", "dev", "test")}
    assert counted["groups"].sum().to_dict() == sizes == counted["classes"].sum().to_dict()
    assert ((counted["groups"] > 0).sum(axis=1) == 1).all(), "by-speaker: no speaker in two parts"
    assert list(counted["classes"].index) == list(CORPUS.classes)
    leaky = widgets.count_parts(CORPUS, CORPUS.folds("random", 4)[0])
    mixed = (leaky["groups"]["test"] > 0) & (leaky["groups"][["train", "dev"]].sum(axis=1) > 0)
    assert mixed.sum() == leaky["leakage"]["speakers"] > 0


def test_the_fold_explorer_tells_the_leaks_of_the_chosen_fold():
    box = widgets.fold_explorer(CORPUS, ["random", "by-speaker"], 4)
    controls = controls_of(box)
    controls["protocol"].value = "by-speaker"
    controls["fold"].value = 3
    assert "share 0 speakers" in box.children[-1].value
    told = box.book.data["protocols"]["by-speaker"][2]
    assert told["leakage"]["speakers"] == 0
    assert told["says"].startswith("the learning part")
    assert np.sum(told["groups"]["speaker"]["counts"]) == len(CORPUS) == sum(told["parts"])


def test_a_corpus_that_names_nobody_has_an_empty_panel():
    table = CORPUS.utterances.drop(columns="speaker")
    box = widgets.fold_explorer(replace(CORPUS, utterances=table), folds=3)
    assert "cannot be known: speakers" in box.children[-1].value


@pytest.mark.parametrize(
    ("margin", "confidence", "folds"), [(0.5, 95, 5), (2.0, 80, 3), (10, 99, 2)]
)
def test_margin_confidence_and_folds_move_the_verdict_as_compare_does(margin, confidence, folds):
    table = runs_table()
    box = widgets.verdict_explorer(table, PAIRS, "accuracy")
    controls = controls_of(box)
    chosen = {"pair": PAIRS[1], "margin": margin, "confidence": confidence, "folds": folds}
    for name, value in chosen.items():
        controls[name].value = value
    level = 1 - confidence / 100
    one = compare(table[table["fold"] < folds], *PAIRS[1], "accuracy", margin / 100, level)
    assert f'data-verdict="{one.verdict}" data-margin="{margin:.1f}"' in box.children[-1].value
    assert f"{one.n_folds} fold" in box.children[-1].value


def test_the_books_designs_give_the_standard_error_of_compare():
    data = widgets.verdict_explorer(runs_table(), PAIRS, "accuracy").book.data
    for case, pair in zip(data["cases"], PAIRS, strict=True):
        for design in case["designs"]:
            table = runs_table()
            one = compare(table[table["fold"] < design["folds"]], *pair, "accuracy")
            se = np.std(design["differences"], ddof=1) * np.sqrt(design["factor"])
            assert se == pytest.approx(one.se)
            assert design["df"] == one.df


def test_new_seeds_may_be_asked_for_and_one_fold_then_has_no_slider():
    table = runs_table().query("fold == 0")
    box = widgets.verdict_explorer(table, PAIRS, "accuracy", estimand="new seeds")
    assert "folds" not in controls_of(box)
    assert box.book.data["unit"] == "seed"


def test_what_compare_refuses_is_told_of_and_not_raised():
    table = runs_table().query("configuration in ['cross-AT', 'self-AT']")
    table["accuracy"] = np.where(table["configuration"] == "self-AT", 0.5, 0.6)
    box = widgets.verdict_explorer(table, PAIRS[:1], "accuracy")
    assert "Nothing to draw: constant scores" in box.children[-1].value


def test_names_from_a_table_are_text_and_not_markup():
    table = runs_table()
    table["configuration"] = table["configuration"].replace("cross-AT", "<b>cross-AT")
    *_, said = widgets.verdict_explorer(table, [("<b>cross-AT", "self-AT")], "accuracy").children
    assert "<b>" not in said.value
    assert "&lt;b&gt;cross-AT" in said.value


def test_the_zoo_tells_name_interval_cost_and_source_of_the_chosen_fusion():
    runs, costs = zoo_tables()
    box = widgets.zoo_explorer(runs, costs, "accuracy")
    controls = controls_of(box)
    controls["fusion"].value, controls["cost"].value = "mult-AT", "seconds"
    said = box.children[-1].value
    assert "mult-AT: accuracy 7" in said
    assert "95 % interval" in said
    assert "Tsai et al. 2019" in said
    seconds = runs[runs["configuration"] == "mult-AT"]["seconds"].mean()
    assert f"seconds to train one run: {seconds:.4g}. " in said
    told = {row["name"]: row for row in box.book.data["rows"]}
    assert told["mean-AT"]["costs"]["parameters"] == 0
    mine = widgets.zoo_explorer(runs, costs, "accuracy", about={"mean-AT": "ours"}).book.data
    assert "ours" in [row["about"] for row in mine["rows"]]


# -- utterances ------------------------------------------------------------------------------------


@pytest.fixture
def tones(tmp_path) -> Corpus:
    """Five utterances of two classes: tones of a second, said to hold two words each."""
    root = tmp_path / "media"
    root.mkdir()
    for i in range(5):
        tone = 0.5 * np.sin(2 * np.pi * 200 * (i + 1) * np.arange(16000) / 16000)
        soundfile.write(root / f"u{i}.wav", tone, 16000)
    ids = [f"u{i}" for i in range(5)]
    spoken = {"id": ids, "start": 0.1, "end": 0.8, "word": [f"<{name}>" for name in ids]}
    pd.DataFrame(spoken).to_csv(root / "words.csv", index=False)
    table = pd.DataFrame({"id": ids, "label": [0, 1, 0, 1, 1], "text": spoken["word"]})
    clips = [Clip(root / f"{name}.wav") for name in ids]
    listing = Listing("tones", ("low", "high"), table, {"audio": clips}, root, portable=True)
    return build_corpus(listing, tmp_path / "corpus", Extraction("logmel", cache=str(tmp_path)))


def test_choosing_a_class_and_an_utterance_shows_reads_and_plays_it(tones):
    kind, place, picture, said = widgets.utterance_explorer(tones).children
    before = picture.value
    assert 'data-id="u0" data-class="low"' in said.value
    kind.value = "high"
    place.value = 2
    assert 'data-id="u4" data-class="high"' in said.value
    assert "&lt;u4&gt;" in said.value
    assert picture.value != before
    sound = said.value.split("base64,")[1].split('"')[0]
    heard, rate = soundfile.read(BytesIO(b64decode(sound)))
    assert rate == 16000
    assert np.abs(np.fft.rfft(heard)).argmax() == 1000


def test_the_slider_ends_at_the_last_utterance_of_the_class(tones):
    kind, place, _, said = widgets.utterance_explorer(tones).children
    assert place.max == 1
    kind.value = "high"
    assert place.max == 2
    place.value = 2
    kind.value = "low"
    assert (place.value, place.max) == (1, 1)
    assert 'data-id="u2"' in said.value


def test_an_explorer_without_data_for_the_book_carries_none(tones):
    assert widgets.MIME not in widgets.utterance_explorer(tones)._repr_mimebundle_()


def test_a_recording_is_read_from_where_the_corpus_says(tones):
    seen = widgets.read_recording(tones, 3)
    assert len(seen["waveform"]) == 16000
    assert seen["words"]["word"].tolist() == ["<u3>"]
    assert seen["pictures"] is None
    assert seen["events"] is None


def test_a_medium_that_is_gone_is_told_of(tones):
    tones.clip("audio", 1).path.unlink()
    with pytest.raises(Unreadable, match=r"u1\.wav"):
        widgets.read_recording(tones, 1)
    kind, *_, said = widgets.utterance_explorer(tones).children
    kind.value = "high"
    assert "Nothing to draw" in said.value

"""The staged corpus: sentences, voices, faces and files show what the plan says they show."""

from __future__ import annotations

import wave
from collections import defaultdict
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmer_lib.corpora import load_corpus
from mmer_lib.corpora.manifest import read_manifest
from mmer_lib.corpora.processed import COUNTS
from mmer_lib.corpora.staged import FEATURES, Staging, production, read_staged, stage, staged, voice
from mmer_lib.corpora.staged.drawing import draw
from mmer_lib.corpora.staged.expression import FACES, FPS, loudness, move, rise_and_fall
from mmer_lib.corpora.staged.face import UNITS, Pose, Shape, landmarks
from mmer_lib.corpora.staged.people import cast
from mmer_lib.corpora.staged.plan import WEAK, describe, plan
from mmer_lib.corpora.staged.script import (
    EMOTIONS,
    OWN,
    SHARED,
    TOPICS,
    Sentence,
    build,
    sentences,
)
from mmer_lib.errors import InputError

MODALITIES = ("audio", "video", "text")
needs_espeak = pytest.mark.skipif(
    find_spec("espeakng_loader") is None, reason="eSpeak NG is not installed (extra `staged`)"
)


# -- sentences -------------------------------------------------------------------------------------


def all_sentences(emotion: str, clear: bool = True) -> list[Sentence]:
    return [sentence for topic in TOPICS for sentence in sentences(emotion, topic, clear)]


def test_the_emotions_are_the_papers_classes_in_its_order():
    assert tuple(COUNTS) == EMOTIONS


def test_there_are_hundreds_of_distinct_sentences_of_every_emotion():
    for emotion in EMOTIONS:
        assert len({sentence.text for sentence in all_sentences(emotion)}) > 200


def test_brackets_become_the_characters_of_the_words():
    sentence = build("{}, [hip] and [hooray]!", "we won", "excited")
    assert sentence.text == "We won, hip and hooray!"
    assert [sentence.text[a:b] for a, b in sentence.spans] == ["hip", "hooray"]


@pytest.mark.parametrize("clear", [True, False])
def test_every_emotional_sentence_knows_its_words_and_a_neutral_one_has_none(clear):
    for emotion in EMOTIONS:
        for sentence in all_sentences(emotion, clear):
            assert bool(sentence.spans) == (emotion != "neutral")


def marked_words(emotion: str, clear: bool) -> set[str]:
    return {s.text[a:b].lower() for s in all_sentences(emotion, clear) for a, b in s.spans}


def test_words_of_a_clear_sentence_belong_to_one_emotion_alone():
    owners = defaultdict(set)
    for emotion in OWN:
        for word in marked_words(emotion, clear=True):
            owners[word].add(emotion)
        for word in marked_words(emotion, clear=False):
            assert word not in marked_words(emotion, clear=True)
    assert {len(emotions) for emotions in owners.values()} == {1}


def test_words_of_an_unclear_sentence_are_shared_by_two_emotions():
    for pair in SHARED:
        assert marked_words(pair[0], clear=False) & marked_words(pair[1], clear=False)


def test_an_unknown_emotion_is_named_with_the_near_one():
    with pytest.raises(InputError, match="did you mean 'angry'"):
        sentences("angri", "pets")


# -- faces -----------------------------------------------------------------------------------------

SHAPES = [person.shape for person in cast(10)]


def points(emotion: str, shape: Shape = SHAPES[0]) -> dict[str, np.ndarray]:
    return landmarks(FACES[emotion], shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_joy_raises_the_corners_of_the_mouth_and_sadness_lowers_them(shape):
    (happy, _, _, _), (rest, _, _, _), (sad, _, _, _) = (
        points(e, shape)["mouth"] for e in ("happy", "neutral", "sad")
    )
    assert happy[1] < rest[1] - 1 < rest[1] + 1 < sad[1]
    assert happy[0] < rest[0]  # and wider


@pytest.mark.parametrize("side", ["left", "right"])
def test_anger_lowers_and_knits_the_brows_and_surprise_raises_them(side):
    angry, rest, surprise = (points(e)[f"brow_{side}"] for e in ("angry", "neutral", "surprise"))
    assert angry[0, 1] > rest[0, 1] + 1  # y grows downwards
    assert abs(angry[0, 0] - 32) < abs(rest[0, 0] - 32)
    assert (surprise[:, 1] < rest[:, 1] - 1).all()


def test_sadness_raises_the_inner_end_of_the_brow_above_the_outer_one():
    inner, _, outer = points("sad")["brow_right"]
    assert inner[1] < outer[1]


def eye_opening(units: dict[str, float]) -> float:
    _, upper, _, lower = landmarks(units, SHAPES[0])["eye_left"]
    return float(lower[1] - upper[1])


def test_a_blink_closes_the_eyes_and_surprise_opens_them_wide():
    assert eye_opening({"AU43": 1.0}) == pytest.approx(0, abs=1e-9)
    assert eye_opening({"AU43": 0.5}) == pytest.approx(eye_opening({}) / 2)
    assert eye_opening(FACES["surprise"]) > 1.2 * eye_opening({})
    assert eye_opening(FACES["frustrated"]) < 0.6 * eye_opening({})


def test_the_jaw_drop_opens_the_mouth_and_lowers_the_chin():
    shut, dropped = landmarks({}, SHAPES[0]), landmarks({"AU26": 1.0}, SHAPES[0])
    assert dropped["mouth"][3, 1] > shut["mouth"][3, 1] + 3
    assert dropped["chin"][0, 1] > shut["chin"][0, 1]


def test_a_face_at_rest_is_symmetrical_and_a_pose_only_moves_it():
    rest = landmarks({}, SHAPES[0])
    mirrored = np.abs(rest["eye_left"] * (-1, 1) + (64, 0))
    np.testing.assert_allclose(mirrored, rest["eye_right"])
    posed = landmarks({}, SHAPES[0], Pose(3, -2, 10))
    before, after = (np.concatenate(list(p.values())) for p in (rest, posed))
    distances = [np.linalg.norm(p[:, None] - p[None], axis=2) for p in (before, after)]
    np.testing.assert_allclose(*distances)
    assert np.abs(before - after).max() > 2


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_are_small_pictures_in_which_every_emotion_looks_different(shape):
    frames = {emotion: draw(FACES[emotion], shape).astype(float) for emotion in EMOTIONS}
    assert {frame.shape for frame in frames.values()} == {(64, 64, 3)}
    for a in EMOTIONS:
        for b in EMOTIONS[: EMOTIONS.index(a)]:
            changed = np.abs(frames[a] - frames[b]).max(axis=2) > 40
            assert changed.sum() > 40, (a, b)


@pytest.mark.parametrize("unit", UNITS)
def test_every_action_unit_can_be_seen(unit):
    still, moved = (draw(units, SHAPES[0]).astype(float) for units in ({}, {unit: 1.0}))
    assert (np.abs(still - moved).max(axis=2) > 30).sum() >= 4


def test_speakers_look_different():
    frames = [draw({}, shape).astype(float) for shape in SHAPES]
    for i, a in enumerate(frames):
        assert all(np.abs(a - b).mean() > 5 for b in frames[:i])


def test_a_head_that_leaves_the_frame_can_be_drawn():
    assert draw(FACES["excited"], SHAPES[0], Pose(70, -80)).shape == (64, 64, 3)


def test_an_unknown_unit_and_an_unknown_style_are_refused():
    with pytest.raises(InputError, match="unknown action unit 'AU99'"):
        landmarks({"AU99": 1.0}, Shape())
    with pytest.raises(InputError, match="unknown style of hair 'afro-ish'"):
        Shape(style="afro-ish")


# -- movement --------------------------------------------------------------------------------------


def test_an_expression_is_fullest_at_its_apex_and_rests_far_from_it():
    times = np.linspace(0, 2, 201)
    shown = rise_and_fall(times, apex=1.2, seconds=2.0)
    assert shown[120] == shown.max() == 1
    assert shown[0] == pytest.approx(shown.min()) == pytest.approx(0.2)
    assert (np.diff(shown[:120]) >= 0).all()
    assert (np.diff(shown[120:]) <= 0).all()


def test_loudness_by_frame_is_the_root_mean_square_of_its_samples():
    rate, samples = 1000, np.random.default_rng(0).normal(size=400) * np.linspace(1, 50, 400)
    times = (np.arange(10) + 0.5) / FPS
    slow = np.array([np.sqrt(np.mean(samples[40 * i : 40 * i + 40] ** 2)) for i in range(10)])
    expected = np.minimum(slow / np.quantile(slow, 0.95), 1)
    np.testing.assert_allclose(loudness(samples, rate, times), expected)


def test_the_jaw_follows_the_voice():
    samples = np.zeros(32000, np.int16)
    samples[12000:20000] = 8000
    moved = move("neutral", 0.0, 0.5, samples, 16000, seed=0)
    jaw = np.array([units["AU26"] for units in moved.units])
    loud = (moved.times > 0.8) & (moved.times < 1.2)
    assert jaw[loud].min() > 0.3
    assert jaw[~((moved.times > 0.7) & (moved.times < 1.3))].max() < 0.05


def test_eyes_blink_but_not_at_the_apex():
    samples, blinks = np.zeros(16000 * 4, np.int16), 0
    for seed in range(20):
        moved = move("happy", 1.0, 0.5, samples, 16000, seed)
        closed = moved.times[[units["AU43"] > 0.9 for units in moved.units]]
        blinks += len(closed)
        assert not (np.abs(closed - moved.apex) < 0.1).any()
    assert blinks > 20


# -- the plan --------------------------------------------------------------------------------------


def truth(**options: Any) -> pd.DataFrame:
    return pd.DataFrame([describe(line) for line in plan(Staging(**options))])


def test_the_plan_follows_from_its_options_and_differs_between_seeds():
    assert plan(Staging(60)) == plan(Staging(60))
    assert [line.sentence for line in plan(Staging(60))] != [
        line.sentence for line in plan(Staging(60, seed=1))
    ]
    assert Staging(60).digest != Staging(60, seed=1).digest


def test_congruent_modalities_show_the_label_or_nothing():
    table = truth(utterances=300)
    assert set(table["kind"]) == {"congruent"}
    for modality in MODALITIES:
        shown, strength = table[f"emotion_{modality}"], table[f"strength_{modality}"]
        assert ((shown == table["label"]) | (shown == "neutral")).all()
        assert ((strength > 0) == (shown != "neutral")).all()


def test_without_congruence_the_words_of_every_line_disagree_and_voice_and_face_do_not():
    table = truth(utterances=300, congruence=0.0)
    assert set(table["kind"]) == {"sarcasm"}
    assert (table["emotion_text"] != table["label"]).all()
    assert (table["emotion_text"] != "neutral").all()
    for modality in ("audio", "video"):
        shown = table[f"emotion_{modality}"]
        assert ((shown == table["label"]) | (shown == "neutral")).all()


def test_the_share_of_sarcasm_is_exact():
    assert (truth(utterances=200, congruence=0.7)["kind"] == "sarcasm").sum() == 60


def test_with_full_clarity_everything_shows_the_label_at_full_strength():
    table = truth(utterances=140, clarity=1.0)
    emotional = table[table["label"] != "neutral"]
    for modality in MODALITIES:
        assert (table[f"emotion_{modality}"] == table["label"]).all()
        np.testing.assert_allclose(emotional[f"strength_{modality}"], emotional["strength"])


@pytest.mark.parametrize("clarity", [0.3, 0.8])
def test_a_modality_is_clear_as_often_as_clarity_says(clarity):
    table = truth(utterances=3000, clarity=clarity)
    table = table[table["label"] != "neutral"]
    expected = clarity + (1 - clarity) ** 3 / 3  # where all three were unclear, one was saved
    for modality in MODALITIES:
        ratio = table[f"strength_{modality}"] / table["strength"]
        assert set(ratio.round(2)) == {0.0, WEAK, 1.0}
        error = np.sqrt(expected * (1 - expected) / len(table))
        assert abs((ratio > 0.9).mean() - expected) < 4 * error


@pytest.mark.parametrize("congruence", [0.0, 1.0])
def test_every_line_can_be_solved_from_voice_face_or_congruent_words(congruence):
    table = truth(utterances=500, clarity=0.0, congruence=congruence)
    table = table[table["label"] != "neutral"]
    carriers = MODALITIES if congruence else ("audio", "video")
    best = table[[f"strength_{m}" for m in carriers]].max(axis=1)
    np.testing.assert_allclose(best, table["strength"])


def test_classes_are_balanced_and_scenes_are_short_talks_of_two():
    table = truth(utterances=700)
    assert set(table["label"].value_counts()) == {100}
    for _, scene in table.groupby("dialogue"):
        assert 1 <= len(scene) <= 9
        assert scene["speaker"].nunique() <= 2
        assert scene["session"].nunique() == scene["topic"].nunique() == 1
    assert table["speaker"].nunique() == 10
    assert table.groupby("session")["speaker"].nunique().tolist() == [2] * 5


@pytest.mark.parametrize("speakers", [1, 3, 12])
def test_any_number_of_speakers_has_lines(speakers):
    assert truth(utterances=150, speakers=speakers)["speaker"].nunique() == speakers


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"utterances": 0}, "staged: utterances=0"),
        ({"speakers": 0}, "staged: speakers=0"),
        ({"congruence": 1.5}, "staged: congruence=1.5: a share in"),
        ({"clarity": float("nan")}, "staged: clarity=nan: a share in"),
        ({"seed": -1}, "staged: seed=-1"),
    ],
)
def test_wrong_options_are_told_in_one_line_before_anything_is_written(options, told, tmp_path):
    with pytest.raises(InputError) as caught:
        stage(tmp_path / "new", **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_wrong_features_are_told_before_anything_is_staged(tmp_path):
    wrong = replace(FEATURES, video="dtc", cache=str(tmp_path))
    with pytest.raises(InputError, match="unknown video feature 'dtc'"):
        staged(extraction=wrong)
    assert not list(tmp_path.iterdir())


# -- voices ----------------------------------------------------------------------------------------

TEXT = "I am going to read the news in our garden."


def say(emotion: str, who: int = 0, **options: Any) -> voice.Spoken:
    person = cast(10)[who]
    manner = voice.manner(emotion)
    return voice.speak(TEXT, person.variant, person.rate, manner, pitch=person.pitch, **options)


def pitch_of(samples: np.ndarray) -> float:
    """The median over loud frames of the strongest lag of the autocorrelation, in Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(samples / 32768, 800)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = (frames**2).sum(axis=1)
    found = []
    for frame in frames[power > np.quantile(power, 0.6)]:
        correlation = np.correlate(frame, frame, "full")[799:]
        lags = correlation[32:230]  # 500 .. 70 Hz
        if lags.max() > 0.4 * correlation[0]:
            found.append(voice.RATE / (32 + int(lags.argmax())))
    return float(np.median(found))


def level_of(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean((samples / 32768) ** 2)))


@needs_espeak
@pytest.mark.parametrize("who", [0, 1, 2, 5])
def test_joyful_voices_are_higher_faster_and_louder_than_neutral_and_sad_ones_lower(who):
    excited, neutral, sad = (say(e, who) for e in ("excited", "neutral", "sad"))
    pitches = [pitch_of(spoken.samples) for spoken in (excited, neutral, sad)]
    assert pitches[0] > 1.1 * pitches[1] > 1.1 * 1.05 * pitches[2]
    assert excited.seconds < neutral.seconds < sad.seconds
    levels = [level_of(spoken.samples) for spoken in (excited, neutral, sad)]
    assert levels[0] > levels[1] + 2 > levels[2] + 4


@needs_espeak
def test_anger_is_the_loudest_and_brightest():
    def bright(samples: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(samples.astype(float))) ** 2
        return float(power[len(power) // 5 :].sum() / power.sum())  # above 1600 Hz

    spoken = {emotion: say(emotion).samples for emotion in EMOTIONS}
    assert max(spoken, key=lambda e: level_of(spoken[e])) == "angry"
    assert bright(spoken["angry"]) > 1.2 * bright(spoken["neutral"]) > 1.2 * bright(spoken["sad"])


@needs_espeak
def test_no_strength_is_neutral():
    assert voice.manner("angry", 0.0) == voice.manner("neutral")
    half, full = voice.manner("sad", 0.5), voice.manner("sad")
    assert half.pitch == full.pitch / 2
    assert half.rate == pytest.approx(full.rate**0.5)


@needs_espeak
def test_speakers_differ_in_pitch():
    pitches = [pitch_of(say("neutral", who).samples) for who in range(10)]
    assert min(pitches[::2]) > 1.2 * max(pitches[1::2])


@needs_espeak
@pytest.mark.parametrize("text", [TEXT, "One of the boys can't come, and it is out of my hands!"])
def test_word_times_rise_lie_inside_the_clip_and_hold_sound(text):
    spoken = voice.speak(text, "en-us+f2", 180, seed=3)
    assert [text[w.first : w.last] for w in spoken.words] == text.rstrip(".!").replace(
        ",", ""
    ).split()
    silence = level_of(spoken.samples[: round(0.1 * voice.RATE)])
    before = voice.BEFORE
    for word in spoken.words:
        assert before <= word.start < word.end <= spoken.seconds - voice.AFTER + 0.01
        before = word.end - 1e-9
        inside = spoken.samples[round(word.start * voice.RATE) : round(word.end * voice.RATE)]
        assert level_of(inside) > silence + 15


@needs_espeak
def test_the_stressed_word_is_louder_and_its_peak_lies_in_it():
    first = TEXT.index("news")
    span = (first, first + 4)
    plain, stressed = (say("happy", stressed=s) for s in (None, span))

    def beside_the_rest(spoken: voice.Spoken) -> float:
        (word,) = [w for w in spoken.words if w.first == first]
        begin, end = round(word.start * voice.RATE), round(word.end * voice.RATE)
        rest = np.concatenate([spoken.samples[2400:begin], spoken.samples[end:-4000]])
        return level_of(spoken.samples[begin:end]) - level_of(rest)

    assert beside_the_rest(stressed) > beside_the_rest(plain) + 2
    (word,) = [w for w in stressed.words if w.first == first]
    assert word.start <= stressed.peak(span) <= word.end


@needs_espeak
def test_a_voice_that_does_not_exist_and_a_text_without_words_are_refused():
    with pytest.raises(InputError, match="no voice 'en-moon'"):
        voice.speak(TEXT, "en-moon")
    with pytest.raises(InputError, match="a text with words expected"):
        voice.speak("...")


def test_without_espeak_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r"pip install 'mmer\[staged\]'"):
        voice._Engine()


# -- files -----------------------------------------------------------------------------------------

FEW: dict[str, Any] = {"utterances": 12, "speakers": 4, "congruence": 0.75, "seed": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    if find_spec("espeakng_loader") is None:
        pytest.skip("eSpeak NG is not installed (extra `staged`)")
    return stage(tmp_path_factory.mktemp("staged") / "media", **FEW)


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_the_same_options_give_the_same_bytes_in_any_number_of_processes(folder, tmp_path):
    again = contents(stage(tmp_path / "again", **FEW, jobs=2))
    assert again == contents(folder)
    assert len(again) == 3 * 12 + 4


def test_another_seed_gives_other_media(folder, tmp_path):
    other = contents(stage(tmp_path / "other", **{**FEW, "utterances": 4, "seed": 6}))
    mine = set(contents(folder).values())
    assert not [name for name, data in other.items() if "text" not in name and data in mine]


def test_the_manifest_lists_every_file_with_its_truth(folder):
    table = pd.read_csv(folder / "manifest.csv")
    assert list(table)[:8] == [
        "id", "audio", "video", "text", "label", "speaker", "dialogue", "session",
    ]  # fmt: skip
    assert len(table) == 12
    for row in table.itertuples():
        assert (folder / row.audio).is_file()
        assert (folder / row.video).is_file()
        assert (folder / "text" / f"{row.id}.txt").read_text().strip() == row.text
        assert row.speaker in row.id
    expected = pd.DataFrame([describe(line) for line in plan(Staging(**FEW))])
    pd.testing.assert_frame_equal(table[list(expected)], expected, check_dtype=False)


def test_sound_is_16_khz_mono_16_bit_and_as_long_as_the_film(folder):
    import av

    for row in pd.read_csv(folder / "manifest.csv").itertuples():
        with wave.open(str(folder / row.audio)) as sound:
            assert sound.getparams()[:3] == (1, 2, 16000)
            seconds = sound.getnframes() / 16000
        with av.open(str(folder / row.video)) as film:
            assert film.streams.video[0].average_rate == FPS
            frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert frames[0].shape == (64, 64, 3)
        assert abs(len(frames) / FPS - seconds) <= 0.5 / FPS


def test_events_point_at_what_was_planted(folder):
    events = pd.read_csv(folder / "events.csv")
    manifest = pd.read_csv(folder / "manifest.csv").set_index("id")
    words = pd.read_csv(folder / "words.csv")
    lines = {line.id: line for line in plan(Staging(**FEW))}
    assert set(events["role"]) == {"word", "stress", "apex"}
    for event in events.itertuples():
        row, line = manifest.loc[event.id], lines[event.id]
        assert EMOTIONS[event.value] == row[f"emotion_{event.modality}"]
        if event.role == "word":
            said = words[(words["id"] == event.id) & (words["first"] == event.character)]
            assert said["start"].tolist() == [event.time]
            assert any(a <= event.character < b for a, b in line.sentence.spans)
        else:
            assert event.character == -1
            end = words[words["id"] == event.id]["end"].max()
            assert 0 < event.time < end
        if event.role == "stress":
            inside = words[(words["id"] == event.id) & (words["start"] <= event.time)].iloc[-1]
            assert line.stressed[0] <= inside["first"] < line.stressed[1]
    for modality in ("audio", "video"):
        showing = manifest.index[manifest[f"strength_{modality}"] > 0]
        assert sorted(events[events["modality"] == modality]["id"]) == sorted(showing)


def test_the_face_is_fullest_in_the_frame_of_its_apex(folder):
    line = next(one for one in plan(Staging(**FEW)) if one.emotion["video"] == "happy")
    moved = production.moves(line, folder)
    smile = np.array([units["AU12"] for units in moved.units])
    assert smile[np.abs(moved.times - moved.apex).argmin()] > 0.9 * smile.max()


def test_an_interrupted_staging_goes_on_and_keeps_what_is_there(folder, tmp_path, monkeypatch):
    whole = contents(folder)
    with monkeypatch.context() as patched:
        film = production.film_lines
        patched.setattr(production, "film_lines", lambda *a: stop_after(film, *a))
        with pytest.raises(KeyboardInterrupt):
            stage(tmp_path / "s", **FEW)
    films = sorted((tmp_path / "s" / "video").glob("*.mp4"))
    assert len(films) == 3
    assert not (tmp_path / "s" / "manifest.csv").exists()
    before = [film.stat().st_mtime_ns for film in films]
    monkeypatch.setattr(production, "in_new_process", None)  # all is said already
    stage(tmp_path / "s", **FEW)
    assert [film.stat().st_mtime_ns for film in films] == before
    assert contents(tmp_path / "s") == whole


def stop_after(film: Any, speakers: int, folder: Path, lines: list[Any]) -> int:
    film(speakers, folder, lines[:3])
    raise KeyboardInterrupt


def test_a_finished_folder_is_left_alone_and_another_one_is_refused(folder, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert stage(folder, **FEW) == folder
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    with pytest.raises(InputError, match="holds something else than this staged corpus"):
        stage(folder, **{**FEW, "seed": 7})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        stage(tmp_path / "file", **FEW)


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch):
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(production, "in_new_process", full)
    with pytest.raises(InputError, match=r"No space left on device\. Free space") as caught:
        stage(tmp_path / "s", **FEW)
    assert "\n" not in str(caught.value)


# -- the corpus ------------------------------------------------------------------------------------


def test_a_listing_has_the_media_the_truth_and_the_events(folder):
    listing = read_staged(folder)
    assert listing.classes == EMOTIONS
    assert [clip.words for clip in listing.clips["text"]] == listing.utterances["text"].tolist()
    names = pd.read_csv(folder / "manifest.csv")["label"]
    assert [EMOTIONS[i] for i in listing.utterances["label"]] == names.tolist()
    assert {"emotion_audio", "kind", "strength"} <= set(listing.utterances)


def test_the_manifest_corpus_reads_the_folder(folder):
    theirs, ours = read_manifest(folder / "manifest.csv"), read_staged(folder)
    for modality in ("audio", "video"):
        paths = [[c.path.resolve() for c in one.clips[modality]] for one in (theirs, ours)]
        assert paths[0] == paths[1]
    labels = [[one.classes[i] for i in one.utterances["label"]] for one in (theirs, ours)]
    assert labels[0] == labels[1]


def test_a_folder_that_was_not_finished_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"manifest.csv is missing: stage the folder again"):
        read_staged(tmp_path)


SMALL: dict[str, Any] = {"utterances": 8, "speakers": 2}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@needs_espeak
def test_the_corpus_is_made_once_and_opened_from_the_cache_afterwards(cache, monkeypatch):
    monkeypatch.setenv("MMER_CACHE", str(cache))
    corpus = load_corpus("staged", **SMALL)
    assert corpus.modalities == MODALITIES
    assert all((corpus.features[m].lengths > 0).all() for m in MODALITIES)
    assert len(list((corpus.path / "media" / "audio").iterdir())) == 8
    monkeypatch.setattr(production, "_is_complete", None)  # staging again would fail
    again = load_corpus("staged", **SMALL)
    assert again.path == corpus.path
    assert again.fingerprint == corpus.fingerprint


@needs_espeak
def test_events_lie_in_frames_of_the_corpus(cache, tmp_path):
    features = replace(FEATURES, cache=str(cache))
    corpus = staged(tmp_path / "corpus", **SMALL, extraction=features)
    assert corpus.path == tmp_path / "corpus"
    assert set(corpus.events["modality"]) == set(MODALITIES)
    for event in corpus.events.itertuples():
        lengths = corpus.features[event.modality].lengths
        assert 0 <= event.frame < lengths[corpus.find(event.id)]
    with pytest.raises(InputError, match="already exists"):
        staged(tmp_path / "corpus", **SMALL, extraction=features)

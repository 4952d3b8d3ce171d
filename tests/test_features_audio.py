"""Sound to frames: the waveform, MFCC by hand, prosody of known sounds, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from real_data import real_data

from mmer_lib.errors import InputError
from mmer_lib.features import waveform
from mmer_lib.features.audio import MFCC, RATE, LogMel, Prosody, log_mel, read_waveform
from mmer_lib.features.base import Clip, Extractor, Track, Unreadable
from mmer_lib.features.prosody import PROSODY_NAMES

EXTRACTORS = (MFCC(), LogMel(), Prosody())


def noise(seconds: float, loud: float = 0.1) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    return (loud * samples).astype(np.float32)


def tone(
    hertz: float, seconds: float, rate: int = RATE, loud: float = 0.5, change: float = 0.0
) -> np.ndarray:
    """A sine whose frequency changes by ``change`` octaves a second."""
    t = np.arange(round(seconds * rate)) / rate
    turns = hertz * (np.expm1(change * np.log(2) * t) / (change * np.log(2)) if change else t)
    return (loud * np.sin(2 * np.pi * turns)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def saved(file: Path, wave: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(file, wave, rate, subtype=subtype)
    return file


def film(
    file: Path, wave: np.ndarray | None, codec: str = "aac", rate: int = 44100, **options: str
) -> Path:
    """A video of half a second, with ``wave`` as its sound unless that is None."""
    with av.open(str(file), "w", options=options) as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        sound = None if wave is None else container.add_stream(codec, rate=rate, layout="mono")
        for at in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * at, np.uint8), "rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if sound is not None and wave is not None:
            frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return file


def encoded(extractor: Extractor, wave: np.ndarray) -> Track:
    (track,) = extractor.encode([wave])
    return track


def spoken(wave: np.ndarray) -> dict[str, float]:
    return dict(zip(PROSODY_NAMES, encoded(Prosody(), wave).values[0].tolist(), strict=True))


def refusal(file: Path, start: float = 0.0, end: float | None = None) -> str:
    """The one line with which ``file`` is refused; it begins with the path."""
    with pytest.raises(Unreadable) as error:
        read_waveform(Clip(file, start, end))
    message = str(error.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    assert ";" in message  # then comes what to do
    return message


# The same number by a slower way.


def slow_mel_filters(bands: int) -> np.ndarray:
    """Triangles of area one on Slaney's scale: 200/3 Hz a mel to 1 kHz, then 27 mel to 6.4 kHz."""
    step = np.log(6.4) / 27
    mel = np.linspace(0, 15 + np.log(8000 / 1000) / step, bands + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))
    filters = np.zeros((bands, 257))
    for band in range(bands):
        low, middle, high = edges[band : band + 3]
        for k in range(257):
            hertz = k * 16000 / 512
            height = min((hertz - low) / (middle - low), (high - hertz) / (high - middle))
            filters[band, k] = max(height, 0) * 2 / (high - low)
    return filters


def slow_log_mel(wave: np.ndarray, bands: int) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    filters = slow_mel_filters(bands)
    padded = np.concatenate([np.zeros(200), wave.astype(np.float64), np.zeros(200)])
    rows = []
    for t in range(1 + len(wave) // 160):
        spectrum = np.fft.fft(padded[160 * t : 160 * t + 400] * window, 512)[:257]
        power = np.abs(spectrum) ** 2
        rows.append(10 * np.log10(np.maximum(filters @ power, 1e-10)))
    return np.array(rows)


def slow_mfcc(wave: np.ndarray, coefficients: int) -> np.ndarray:
    energies = slow_log_mel(wave, 128)
    n = np.arange(128)
    transform = np.array([np.cos(np.pi * k * (2 * n + 1) / 256) for k in range(coefficients)])
    transform *= np.sqrt(2 / 128)
    transform[0] /= np.sqrt(2)
    return energies @ transform.T


@pytest.mark.parametrize("seconds", [0.5, 10.7])  # one block of frames, and more than one
def test_mfcc_are_frames_window_spectrum_mel_log_and_cosines(seconds):
    wave = noise(seconds)
    mine = encoded(MFCC(coefficients=13, deltas=False), wave).values
    np.testing.assert_allclose(mine, slow_mfcc(wave, 13), atol=2e-3)


def test_log_mel_are_frames_window_spectrum_mel_and_log():
    wave = noise(0.5) + tone(300, 0.5)
    mine = encoded(LogMel(bands=20), wave).values
    np.testing.assert_allclose(mine, slow_log_mel(wave, 20), atol=2e-3)


def test_first_deltas_are_the_slope_of_a_line_through_nine_frames():
    values = encoded(MFCC(coefficients=5), noise(0.3)).values
    x = np.arange(-4, 5)
    for t in range(4, len(values) - 4):
        slope = np.polyfit(x, values[t - 4 : t + 5, :5], 1)[0]
        np.testing.assert_allclose(values[t, 5:10], slope, atol=1e-4)


def test_second_deltas_are_the_bend_of_a_parabola_through_nine_frames():
    values = encoded(MFCC(coefficients=5), noise(0.3)).values
    x = np.arange(-4, 5)
    for t in range(4, len(values) - 4):
        bend = 2 * np.polyfit(x, values[t - 4 : t + 5, :5], 2)[0]
        np.testing.assert_allclose(values[t, 10:], bend, atol=1e-4)


# Invariances.


def test_a_gain_changes_the_first_coefficient_alone():
    wave = noise(0.5)
    quiet, loud = (encoded(MFCC(), gain * wave).values for gain in (1, 10))
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], 20 * np.sqrt(128), rtol=1e-4)
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=2e-3)


def test_a_frame_depends_on_its_own_25_ms_alone():
    wave = noise(1.0)
    louder_end = np.concatenate([wave[: RATE // 2], 100 * wave[RATE // 2 :]])
    one, other = (log_mel(x, 40) for x in (wave, louder_end))
    np.testing.assert_array_equal(one[:48], other[:48])  # to 0.47 s + 12.5 ms
    assert (other[52:] > one[52:] + 30).all()


@pytest.mark.parametrize("longest", [1, 5, 60])
def test_the_longest_of_a_clip_are_its_first_frames(longest):
    wave = noise(1.0)
    short, long = encoded(MFCC(longest=longest), wave), encoded(MFCC(), wave)
    assert len(short) == longest
    np.testing.assert_allclose(short.values, long.values[:longest], atol=1e-4)
    np.testing.assert_array_equal(short.times, long.times[:longest])


def test_a_clip_alone_is_itself_among_others():
    waves = [noise(0.2), tone(200, 0.5), noise(0.3)]
    for extractor in EXTRACTORS:
        together = extractor.encode(waves)
        for wave, track in zip(waves, together, strict=True):
            np.testing.assert_array_equal(track.values, encoded(extractor, wave).values)


def test_prosody_of_a_louder_voice_differs_in_its_level_alone():
    wave = np.concatenate([tone(150, 0.4, change=0.5), silence(0.3), tone(220, 0.5)])
    one, other = spoken(0.1 * wave), spoken(0.2 * wave)
    for name in PROSODY_NAMES:
        gain = 20 * np.log10(2) if name in LEVELS else 0
        assert other[name] == pytest.approx(one[name] + gain, abs=1e-3, rel=1e-4), name


LEVELS = {f"level_{name}" for name in ("mean", "p05", "p25", "p50", "p75", "p95")}


# Frames and their times.


@pytest.mark.parametrize("samples", [1, 159, 160, 399, 511, 8 * 160 - 1, 8 * 160, 16001])
def test_a_clip_of_any_length_has_a_frame_every_10_ms(samples):
    wave = noise(2.0)[:samples]
    for extractor in (MFCC(), LogMel()):
        track = encoded(extractor, wave)
        assert track.values.shape == (1 + samples // 160, extractor.width)
        assert np.isfinite(track.values).all()
        np.testing.assert_allclose(track.times, np.arange(len(track)) / 100)
    assert np.isfinite(encoded(Prosody(), wave).values).all()


def test_one_frame_does_not_move():
    values = encoded(MFCC(), noise(0.005)).values
    assert values.shape == (1, 120)
    np.testing.assert_allclose(values[:, 40:], 0, atol=1e-4)


def test_the_time_of_a_frame_is_where_its_sound_is():
    wave = silence(1.0)
    wave[round(0.37 * RATE)] = 0.5  # a click
    track = encoded(LogMel(), wave)
    assert track.times[track.values.sum(axis=1).argmax()] == pytest.approx(0.37)


def test_prosody_is_one_frame_in_the_middle_of_the_clip():
    track = encoded(Prosody(), tone(200, 1.5))
    assert track.values.shape == (1, 35)
    assert track.times.tolist() == [0.75]
    assert Prosody().rate is None


def test_prosody_has_35_names():
    assert len(set(PROSODY_NAMES)) == 35 == Prosody().width


# Silence.


def test_digital_silence_lies_on_the_floor():
    np.testing.assert_allclose(encoded(LogMel(), silence(0.5)).values, -100, rtol=1e-6)
    values = encoded(MFCC(), silence(0.5)).values
    np.testing.assert_allclose(values[:, 0], -100 * np.sqrt(128), rtol=1e-5)
    np.testing.assert_allclose(values[:, 1:], 0, atol=1e-2)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_prosody_of_silence_is_its_duration(offset):
    numbers = spoken(silence(0.5) + np.float32(offset))
    assert numbers.pop("duration") == 0.5
    assert set(numbers.values()) == {0.0}


def test_a_silent_file_is_sound_like_any_other(tmp_path):
    file = saved(tmp_path / "silent.wav", silence(0.5))
    np.testing.assert_array_equal(read_waveform(Clip(file)), silence(0.5))


# Prosody of known sounds.


@pytest.mark.parametrize("hertz", [80, 110, 200, 333, 550])
def test_prosody_hears_the_pitch_and_colour_of_a_tone(hertz):
    numbers = spoken(tone(hertz, 1.0))
    semitones = 12 * np.log2(hertz / 27.5)
    for name in ("mean", "p05", "p25", "p50", "p75", "p95"):
        assert numbers[f"pitch_{name}"] == pytest.approx(semitones, abs=0.25), name
    assert numbers["pitch_sd"] < 0.15
    assert abs(numbers["pitch_slope"]) < 0.3
    assert numbers["centroid_mean"] == pytest.approx(hertz, abs=20)
    assert numbers["crossings_mean"] == pytest.approx(2 * hertz, rel=0.05)
    assert numbers["periodicity"] > 0.98
    assert numbers["voiced_share"] == 1
    assert numbers["pause_share"] == 0


@pytest.mark.parametrize("change", [1.0, -0.5])
def test_the_slope_of_pitch_is_that_of_a_gliding_tone(change):
    numbers = spoken(tone(200, 1.0, change=change))
    assert numbers["pitch_slope"] == pytest.approx(12 * change, rel=0.03)
    there, back = ("rise", "fall") if change > 0 else ("fall", "rise")
    assert numbers[f"pitch_{there}"] == pytest.approx(12 * abs(change), rel=0.1)
    assert numbers[f"pitch_{back}"] < numbers[f"pitch_{there}"] / 2


def test_the_level_of_a_sine_is_its_root_mean_square():
    numbers = spoken(tone(200, 1.0, loud=0.5))
    assert numbers["level_p50"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.05)
    assert abs(numbers["level_slope"]) < 0.3


def test_the_slope_of_level_is_that_of_a_fading_tone():
    fading = 10 ** (-12 * np.arange(RATE) / RATE / 20)  # 12 dB in a second
    numbers = spoken(tone(200, 1.0) * fading.astype(np.float32))
    assert numbers["level_slope"] == pytest.approx(-12, rel=0.05)
    assert numbers["level_fall"] == pytest.approx(12, rel=0.5)


def test_pauses_lie_inside_the_speech():
    sound, lead = tone(200, 0.5), silence(0.4)
    wave = np.concatenate([lead, sound, silence(0.3), sound, silence(0.3), sound, lead, lead])
    numbers = spoken(wave)
    assert numbers["duration"] == pytest.approx(3.3)
    assert numbers["pause_mean"] == pytest.approx(0.3, abs=0.03)
    assert numbers["pause_share"] == pytest.approx(0.6 / 2.1, abs=0.04)  # less half a window
    assert numbers["pause_rate"] == pytest.approx(2 / 2.1, rel=0.02)
    assert numbers["voiced_rate"] == pytest.approx(3 / 2.1, rel=0.02)


def test_the_closure_of_a_consonant_is_no_pause():
    numbers = spoken(np.concatenate([tone(200, 0.5), silence(0.07), tone(200, 0.5)]))
    assert numbers["pause_share"] == numbers["pause_rate"] == numbers["pause_mean"] == 0
    assert numbers["voiced_share"] < 1


def test_noise_has_no_pitch():
    numbers = spoken(noise(1.0))
    for name in ("pitch_mean", "pitch_sd", "pitch_slope", "jitter", "voiced_share"):
        assert numbers[name] == 0, name
    assert numbers["centroid_mean"] == pytest.approx(4000, rel=0.05)
    assert numbers["rolloff_mean"] == pytest.approx(0.85 * 8000, rel=0.03)


def test_a_trembling_voice_has_more_jitter_and_shimmer():
    t = np.arange(RATE) / RATE
    wobble = np.sin(2 * np.pi * 7 * t)
    trembling = np.sin(2 * np.pi * (200 * t + np.cumsum(8 * wobble) / RATE)) * (1 + 0.3 * wobble)
    steady, shaken = spoken(tone(200, 1.0)), spoken((0.3 * trembling).astype(np.float32))
    assert shaken["jitter"] > 5 * steady["jitter"]
    assert shaken["shimmer"] > 3 * steady["shimmer"]


def test_a_long_recording_is_measured_in_pieces_without_a_seam():
    numbers = spoken(tone(200, 12.0))  # more than a block of frames
    assert numbers["pitch_sd"] < 0.1
    assert numbers["voiced_share"] == 1


# The waveform.


@pytest.mark.parametrize("end", [None, 0.8, 1.2])  # labels may end a little after the recording
def test_a_stretch_is_the_waveform_cut(tmp_path, end):
    wave = noise(1.0)
    file = saved(tmp_path / "a.wav", wave, subtype="FLOAT")
    last = None if end is None else round(end * RATE)
    mine = read_waveform(Clip(file, 0.25, end))
    np.testing.assert_array_equal(mine, wave[RATE // 4 : last])


def test_equal_channels_are_mono(tmp_path):
    wave = noise(0.3)
    one = saved(tmp_path / "one.wav", wave)
    two = saved(tmp_path / "two.wav", np.stack([wave, wave], axis=1))
    np.testing.assert_array_equal(read_waveform(Clip(one)), read_waveform(Clip(two)))


def test_channels_are_averaged(tmp_path):
    sides = np.stack([noise(0.3), tone(200, 0.3)], axis=1)
    file = saved(tmp_path / "sides.wav", sides, subtype="FLOAT")
    np.testing.assert_allclose(read_waveform(Clip(file)), sides.mean(axis=1), atol=1e-7)


def test_flac_is_the_wav_it_was_made_of(tmp_path):
    wave = np.round(noise(0.3) * 2**15).astype(np.int16)
    wav, flac = (saved(tmp_path / f"a.{kind}", wave) for kind in ("wav", "flac"))
    np.testing.assert_array_equal(read_waveform(Clip(wav)), read_waveform(Clip(flac)))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_tone_keeps_its_pitch_and_length_at_any_rate(tmp_path, rate):
    wave = read_waveform(Clip(saved(tmp_path / "a.wav", tone(220, 1.0, rate), rate)))
    assert wave.dtype == np.float32
    assert len(wave) == RATE
    np.testing.assert_allclose(wave[800:-800], tone(220, 1.0)[800:-800], atol=2e-3)
    assert spoken(wave)["pitch_p50"] == pytest.approx(36, abs=0.1)  # three octaves above 27.5 Hz


@pytest.mark.parametrize(
    ("file", "codec", "rate"),
    [
        ("a.mp4", "aac", 44100),
        ("a.mov", "pcm_s16le", 44100),
        ("a.avi", "pcm_s16le", 16000),
        ("a.avi", "pcm_u8", 16000),
        ("a.avi", "libmp3lame", 44100),
        ("a.flv", "libmp3lame", 44100),
        ("a.mkv", "libopus", 48000),
        ("a.webm", "libopus", 48000),
        ("a.mpg", "mp2", 48000),
    ],
)
def test_the_sound_of_a_video_is_close_to_its_source(tmp_path, file, codec, rate):
    made = sound_only if file.endswith(("webm", "flv")) else film
    wave = read_waveform(Clip(made(tmp_path / file, glide(rate), codec, rate)))
    assert len(wave) == pytest.approx(2 * RATE, abs=0.08 * RATE)  # codecs work in blocks
    lag = best_lag(wave, glide(RATE))
    assert abs(lag) < 0.06 * RATE
    heard, source = wave[RATE // 2 + lag : RATE + lag], glide(RATE)[RATE // 2 : RATE]
    assert np.corrcoef(heard, source)[0, 1] > 0.99
    assert np.std(heard) == pytest.approx(np.std(source), rel=0.1)


def glide(rate: int) -> np.ndarray:
    """Two seconds that are like themselves at no other time."""
    return tone(150, 2.0, rate, change=1.0)


def sound_only(file: Path, wave: np.ndarray, codec: str, rate: int) -> Path:
    with av.open(str(file), "w") as container:
        sound = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return file


def best_lag(heard: np.ndarray, source: np.ndarray) -> int:
    """Samples by which ``heard`` comes late, within a tenth of a second."""
    middle = source[RATE // 2 : RATE]
    lags = range(-RATE // 10, RATE // 10)
    start = RATE // 2
    likeness = [float(middle @ heard[start + lag : start + lag + len(middle)]) for lag in lags]
    return lags[int(np.argmax(likeness))]


@pytest.mark.parametrize(
    ("file", "codec", "rate", "late"),
    [
        ("a.mp4", "aac", 44100, 0.0),
        ("a.m4a", "aac", 44100, 0.0),
        ("a.avi", "libmp3lame", 44100, 0.0),
        ("a.flv", "libmp3lame", 44100, 0.0),
        ("a.mpg", "mp2", 48000, 0.0),
        ("a.mkv", "libopus", 48000, 0.001),  # its clock ticks in ms
    ],
)
def test_a_stretch_of_a_video_is_its_sound_cut(tmp_path, file, codec, rate, late):
    source = tone(150, 3.0, rate, change=1.0)
    made = sound_only if file.endswith(("m4a", "flv")) else film
    path = made(tmp_path / file, source, codec, rate)
    whole, part = (read_waveform(Clip(path, *cut), rate) for cut in ((0.0, None), (1.3, 2.1)))
    assert len(part) == round(0.8 * rate)
    first = round(1.3 * rate)
    slips = range(-round(late * rate), round(late * rate) + 1)
    apart = min(np.abs(part[99:-99] - whole[first + s :][99 : len(part) - 99]).max() for s in slips)
    assert apart < 1e-3


def test_sound_that_begins_after_the_picture_keeps_its_time(tmp_path):
    file = tmp_path / "late.mkv"
    with av.open(str(file), "w") as container:
        picture = container.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        image.pts, image.time_base = 0, Fraction(1, 10)
        container.mux(picture.encode(image))
        container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(noise(0.5)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, RATE // 4, Fraction(1, RATE)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    wave = read_waveform(Clip(file))
    assert len(wave) == pytest.approx(0.75 * RATE, abs=16)
    assert np.abs(wave[: RATE // 4 - 16]).max() == 0
    assert np.abs(wave[RATE // 4 : RATE // 4 + 160]).max() > 0.05


def test_a_title_in_an_odd_encoding_does_not_cost_the_sound(tmp_path):
    file = tmp_path / "a.mkv"
    with av.open(str(file), "w") as container:
        container.metadata["title"] = "café"
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise(0.5)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    content = file.read_bytes()
    assert "café".encode() in content
    file.write_bytes(content.replace("café".encode(), "café ".encode("latin-1")))
    np.testing.assert_allclose(read_waveform(Clip(file)), noise(0.5), atol=1e-4)


# What cannot be read.


def test_a_missing_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.wav")


def test_a_folder_is_refused(tmp_path):
    assert "a folder" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp4"])
def test_an_empty_file_is_refused(tmp_path, kind):
    file = tmp_path / f"empty.{kind}"
    file.touch()
    assert "0 bytes" in refusal(file)


def test_zero_length_audio_is_refused(tmp_path):
    assert "zero-length" in refusal(saved(tmp_path / "a.wav", silence(0)))


@pytest.mark.parametrize("kind", ["wav", "flac", "mp4", "avi", "xyz"])
def test_junk_is_refused(tmp_path, kind):
    file = tmp_path / f"junk.{kind}"
    file.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "no sound could be decoded" in refusal(file)


@pytest.mark.parametrize("kind", ["wav", "aiff", "au"])
def test_a_file_cut_off_is_refused_with_both_lengths(tmp_path, kind):
    file = saved(tmp_path / f"a.{kind}", noise(1.0), subtype="PCM_16")
    file.write_bytes(file.read_bytes()[:20000])
    message = refusal(file)
    assert "cut off" in message
    assert "32000" in message or "32008" in message  # an aiff counts 8 bytes of its own


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    file = saved(tmp_path / "a.wav", noise(1.0), subtype="PCM_16")
    content = bytearray(file.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = (64000).to_bytes(4, "little")
    file.write_bytes(content)
    assert "64000" in refusal(file)


@pytest.mark.parametrize("promised", [32100, 0xFFFFFFFF, 0x7FFFF000])
def test_a_header_that_is_a_little_off_or_endless_is_read(tmp_path, promised):
    wave = noise(1.0)
    file = saved(tmp_path / "a.wav", wave, subtype="PCM_16")
    content = bytearray(file.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = promised.to_bytes(4, "little")
    file.write_bytes(content)
    np.testing.assert_allclose(read_waveform(Clip(file)), wave, atol=1e-4)


def test_a_flac_cut_off_is_refused(tmp_path):
    file = saved(tmp_path / "a.flac", noise(1.0))
    file.write_bytes(file.read_bytes()[:15000])
    refusal(file)


@pytest.mark.parametrize(
    ("file", "codec", "options"),
    [
        ("a.mp4", "aac", {}),  # its index is at the end
        ("a.mp4", "aac", {"movflags": "faststart"}),  # and at the beginning
        ("a.mov", "pcm_s16le", {"movflags": "faststart"}),  # so that FFmpeg plays what is left
        ("a.mkv", "libopus", {}),
        ("a.avi", "pcm_s16le", {}),
    ],
)
def test_a_video_cut_off_is_refused(tmp_path, file, codec, options):
    path = film(tmp_path / file, tone(200, 3.0, 48000), codec, 48000, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    message = refusal(path)
    assert "cut off" in message or "no sound could be decoded" in message


def test_a_video_without_sound_is_refused(tmp_path):
    assert "no audio stream" in refusal(film(tmp_path / "mute.mp4", None))


@pytest.mark.parametrize("kind", ["wav", "mp4"])
def test_a_start_beyond_the_end_is_refused_with_both(tmp_path, kind):
    made = saved if kind == "wav" else sound_only_mp4
    message = refusal(made(tmp_path / f"a.{kind}", tone(200, 1.0)), start=5.5)
    assert "5.5 s" in message
    assert "ends at 1.0" in message


def sound_only_mp4(file: Path, wave: np.ndarray) -> Path:
    return sound_only(file, wave, "aac", RATE)


@pytest.mark.parametrize("kind", ["wav", "mp4"])
def test_an_end_well_beyond_the_recording_is_refused(tmp_path, kind):
    made = saved if kind == "wav" else sound_only_mp4
    assert "ends at 9 s" in refusal(made(tmp_path / f"a.{kind}", tone(200, 1.0)), end=9.0)


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.5, 0.2), (-1.0, None)])
def test_a_stretch_that_is_none_is_refused(tmp_path, start, end):
    assert "no stretch" in refusal(saved(tmp_path / "a.wav", noise(1.0)), start, end)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value):
    wave = noise(0.3)
    wave[1000] = value
    assert "not numbers" in refusal(saved(tmp_path / "a.wav", wave, subtype="FLOAT"))


def test_samples_whose_squares_have_no_number_are_refused(tmp_path):
    path = saved(tmp_path / "a.wav", noise(0.3) * np.float32(1e20), subtype="FLOAT")
    assert "full scale is 1" in refusal(path)


def test_samples_on_the_scale_of_whole_numbers_are_sound(tmp_path):
    path = saved(tmp_path / "a.wav", noise(0.3) * np.float32(2**31), subtype="FLOAT")
    for extractor in EXTRACTORS:
        (track,) = extractor.encode([extractor.read(Clip(path))])
        assert np.isfinite(track.values).all()


def test_a_header_of_one_sample_a_second_is_refused(tmp_path):
    path = saved(tmp_path / "a.wav", noise(0.3))
    content = bytearray(path.read_bytes())
    content[24:28] = (1).to_bytes(4, "little")
    path.write_bytes(content)
    assert "1 samples a second" in refusal(path)


def test_a_duration_that_is_no_clock_promises_nothing(tmp_path):
    path = film(tmp_path / "a.mkv", noise(0.5), rate=RATE)
    wave, content = read_waveform(Clip(path)), path.read_bytes()
    strange, changed = re.subn(rb"00:00:00\.", b"00:0x:00,", content)
    assert changed == 2  # of the picture and of the sound
    path.write_bytes(strange)
    np.testing.assert_array_equal(read_waveform(Clip(path)), wave)


def test_a_stream_that_turns_up_on_the_way_is_refused(tmp_path, monkeypatch):
    def collect(*_: object) -> None:
        raise IndexError  # so says PyAV

    monkeypatch.setattr(waveform, "_collect", collect)
    assert "damaged" in refusal(film(tmp_path / "a.mp4", noise(0.5)))


def test_sound_that_would_begin_after_years_is_refused(tmp_path, monkeypatch):
    late = waveform.Decoded(noise(0.5), RATE, begins=1e8, ends=1e8 + 0.5, promised=0.0)
    monkeypatch.setattr(waveform, "_collect", lambda *_: late)
    assert "begin at 100000000 s" in refusal(film(tmp_path / "a.mp4", noise(0.5)))


def test_words_are_no_sound():
    with pytest.raises(Unreadable, match="'hello': words"):
        read_waveform(Clip(words="hello"))


# Options.


@pytest.mark.parametrize(
    ("extractor", "options"),
    [
        (MFCC, {"coefficients": 0}),
        (MFCC, {"coefficients": 129}),
        (MFCC, {"longest": 0}),
        (LogMel, {"bands": 129}),
        (LogMel, {"longest": -5}),
        (Prosody, {"longest": 0}),
    ],
)
def test_options_that_cannot_be_are_refused(extractor, options):
    ((name, given),) = options.items()
    with pytest.raises(InputError, match=f"{name}={given}"):
        extractor(**options)


def test_a_recipe_tells_every_option_apart():
    made = [*EXTRACTORS, MFCC(coefficients=13), MFCC(deltas=False), LogMel(bands=40)]
    recipes = [json.dumps(extractor.recipe(), sort_keys=True) for extractor in made]
    assert len(set(recipes)) == len(made)
    assert all(extractor.recipe()["sample_rate"] == 16000 for extractor in made)


def test_widths_are_those_of_the_frames():
    for extractor in (*EXTRACTORS, MFCC(coefficients=13, deltas=False), LogMel(bands=8)):
        assert encoded(extractor, noise(0.2)).values.shape[1] == extractor.width
    assert MFCC().width == 120


def test_importing_the_module_loads_no_library_of_sound():
    code = (
        "import sys, mmer_lib.features.audio; "
        "sys.exit(any(m in sys.modules for m in ('librosa', 'av', 'soundfile', 'soxr', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Real recordings.


def test_a_real_utterance_has_a_hundred_frames_a_second():
    file = real_data("ravdess/wav16k/03-01-05-02-01-01-01.flac")  # angry, man
    seconds = soundfile.info(file).duration
    for extractor in (MFCC(), LogMel()):
        track = encoded(extractor, extractor.read(Clip(file)))
        assert len(track) == pytest.approx(100 * seconds, abs=1)
        assert np.isfinite(track.values).all()
    numbers = spoken(read_waveform(Clip(file)))
    assert all(np.isfinite(list(numbers.values())))
    assert numbers["duration"] == pytest.approx(seconds, abs=1e-3)
    assert numbers["pause_share"] < 0.5 < numbers["voiced_share"] + numbers["pause_share"]


def test_anger_is_louder_than_calm_and_women_speak_higher_than_men():
    said = {
        (emotion, actor): spoken(
            read_waveform(Clip(real_data(f"ravdess/wav16k/03-01-{emotion}-02-01-01-{actor}.flac")))
        )
        for emotion in ("02", "05")
        for actor in ("02", "03", "04", "05")
    }
    for actor in ("02", "03", "04", "05"):
        assert said["05", actor]["level_mean"] > said["02", actor]["level_mean"] + 6
    men, women = (
        max(said["02", a]["pitch_p50"] for a in ("03", "05")),
        min(said["02", a]["pitch_p50"] for a in ("02", "04")),
    )
    assert women > men + 3


@pytest.mark.parametrize("spec", ["mfcc,coefficients=5", "logmel,bands=6"])
def test_pooled_frames_are_means_of_frames_and_of_their_times(spec, tmp_path):
    from mmer_lib.features.registry import build_extractor

    wave = np.random.default_rng(0).normal(0, 0.1, 16000 + 160 * 3).astype(np.float32)
    fine = build_extractor("audio", spec).encode([wave])[0]
    coarse = build_extractor("audio", f"{spec},pool=10").encode([wave])[0]
    parts = [slice(i, i + 10) for i in range(0, len(fine), 10)]
    assert len(fine) == 104  # so that four are left for the last
    expected = np.stack([fine.values[part].mean(axis=0) for part in parts])
    np.testing.assert_allclose(coarse.values, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(coarse.times, [fine.times[part].mean() for part in parts])
    assert build_extractor("audio", f"{spec},pool=10").rate == 10
    cut = build_extractor("audio", f"{spec},pool=10,longest=3").encode([wave])[0]
    np.testing.assert_allclose(cut.values, coarse.values[:3], rtol=1e-4, atol=1e-4)

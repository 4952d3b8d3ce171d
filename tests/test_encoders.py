"""Encoders: every sequence comes out as if it had been encoded alone, without padding."""

from __future__ import annotations

import pytest
import torch
from small import random_sequences, randomize
from torch import nn

from mmer_lib.encoders import FRONTS, EncoderConfig, SequenceEncoder, run_gru
from mmer_lib.errors import InputError

LENGTHS = [6, 3, 1, 5]
KEEP_TIME = [front for front in FRONTS if front != "mix"]


def encoder(front: str = "project", **options) -> SequenceEncoder:
    mix = (6, 4) if front == "mix" else (0, 0)
    built = SequenceEncoder(EncoderConfig(5, 8, front, mix, **options))
    return randomize(built.double()).eval()


def inputs(lengths=LENGTHS, seed=0):
    sequences, masks = random_sequences({"audio": lengths}, width=5, seed=seed)
    return sequences["audio"], masks["audio"]


def test_masked_gru_equals_each_sequence_run_alone():
    gru = randomize(nn.GRU(5, 4, batch_first=True, bidirectional=True).double())
    x, mask = inputs()
    out = run_gru(gru, x, mask)
    for i, length in enumerate(LENGTHS):
        torch.testing.assert_close(out[i, :length], gru(x[i : i + 1, :length])[0][0])
        assert torch.equal(out[i, length:], torch.zeros(6 - length, 8, dtype=x.dtype))


def test_the_gru_of_a_sequence_without_a_real_step_gives_zeros():
    gru = randomize(nn.GRU(5, 4, batch_first=True, bidirectional=True).double())
    x, mask = inputs([3, 0])
    assert torch.equal(run_gru(gru, x, mask)[1], torch.zeros(3, 8, dtype=x.dtype))


def test_without_masks_the_gru_reads_the_padding():
    gru = randomize(nn.GRU(5, 4, batch_first=True, bidirectional=True).double())
    x, mask = inputs()
    seen, unseen = run_gru(gru, x, torch.ones_like(mask)), run_gru(gru, x, mask)
    torch.testing.assert_close(seen, gru(x)[0])
    assert not torch.allclose(seen[1, :3], unseen[1, :3])


@pytest.mark.parametrize("front", KEEP_TIME)
def test_an_encoded_sequence_equals_itself_encoded_alone(front):
    x, mask = inputs()
    out, out_mask = encoder(front)(x, mask)
    assert torch.equal(out_mask, mask)
    for i, length in enumerate(LENGTHS):
        alone, _ = encoder(front)(x[i : i + 1, :length], mask[i : i + 1, :length])
        torch.testing.assert_close(out[i : i + 1, :length], alone)


@pytest.mark.parametrize("front", KEEP_TIME)
def test_junk_in_the_padding_changes_nothing(front):
    x, mask = inputs()
    other = torch.where(mask.unsqueeze(-1), x, 1e3)
    assert torch.equal(encoder(front)(x, mask)[0], encoder(front)(other, mask)[0])


@pytest.mark.parametrize("front", KEEP_TIME)
def test_more_padding_changes_nothing(front):
    x, mask = inputs()
    longer = torch.cat([x, torch.full((4, 3, 5), 7.0, dtype=x.dtype)], dim=1)
    longer_mask = torch.cat([mask, torch.zeros(4, 3, dtype=torch.bool)], dim=1)
    out, _ = encoder(front)(longer, longer_mask)
    torch.testing.assert_close(out[:, :6], encoder(front)(x, mask)[0])
    assert torch.equal(out[:, 6:], torch.zeros(4, 3, 8, dtype=x.dtype))


@pytest.mark.parametrize("front", FRONTS)
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(front):
    module = encoder(front)
    out, _ = module(*inputs())
    out.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_project_is_one_linear_map_for_every_frame():
    module = encoder("project")
    x, mask = inputs()
    by_hand = run_gru(module.gru, x @ module.front.weight.T + module.front.bias, mask)
    torch.testing.assert_close(module(x, mask)[0], by_hand)


def test_convolve_reads_the_frame_before_and_the_frame_after():
    module = encoder("convolve")
    x, mask = inputs([4])
    w, b = module.front.weight, module.front.bias  # (D, F, 3), (D,)
    edge = torch.zeros(1, 5, dtype=x.dtype)
    padded = torch.cat([edge, x[0], edge])  # (T + 2, F)
    front = torch.stack([sum(w[:, :, k] @ padded[t + k] for k in range(3)) + b for t in range(4)])
    torch.testing.assert_close(module(x, mask)[0], run_gru(module.gru, front[None], mask))


def test_mix_worked_by_hand_every_output_step_is_a_sum_over_all_time():
    module = SequenceEncoder(EncoderConfig(2, 4, "mix", (3, 1))).double()
    x = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]], dtype=torch.float64)
    with torch.no_grad():
        module.front.weight.copy_(torch.tensor([[[1.0], [10.0], [100.0]]]))
        module.front.bias.copy_(torch.tensor([0.5]))
    # one output step: 1 * frame 1 + 10 * frame 2 + 100 * frame 3 + .5, feature by feature
    assert module.front(x).tolist() == [[[321.5, 3210.5]]]
    out, mask = module(x, torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(out, module.gru(module.front(x))[0])
    assert mask.tolist() == [[True]]


def test_behind_mix_the_padding_is_part_of_every_step_even_with_masks():
    module = encoder("mix")
    x, mask = inputs()
    other = torch.where(mask.unsqueeze(-1), x, 1.0)
    out, out_mask = module(x, mask)
    assert out.shape == (4, 4, 8)
    assert out_mask.all()
    assert not torch.allclose(out[1], module(other, mask)[0][1])


def test_behind_mix_a_missing_sequence_is_still_missing():
    out, mask = encoder("mix")(*inputs([6, 0]))
    assert mask.tolist() == [[True] * 4, [False] * 4]
    assert torch.equal(out[1], torch.zeros(4, 8, dtype=out.dtype))


@pytest.mark.parametrize("option", ["input_dropout", "gru_dropout"])
def test_dropout_acts_while_training_and_only_then(option):
    x, mask = inputs()
    plain, dropping = encoder(), encoder(**{option: 0.5})
    assert torch.equal(dropping(x, mask)[0], plain(x, mask)[0])
    torch.manual_seed(0)
    assert not torch.allclose(dropping.train()(x, mask)[0], plain.train()(x, mask)[0])


def test_an_unknown_front_end_is_told_with_the_nearest_name():
    with pytest.raises(InputError, match="'porject': did you mean 'project'"):
        SequenceEncoder(EncoderConfig(5, 8, "porject"))


def test_an_odd_width_cannot_be_halved():
    with pytest.raises(InputError, match="width=7 must be even"):
        SequenceEncoder(EncoderConfig(5, 7))

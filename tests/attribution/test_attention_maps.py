"""Attention weights of PyTorch's own modules, of torchvision's transformer and of the fused function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.attribution import attention_maps, attention_rollout
from coursekit.errors import ArgumentError


@pytest.fixture
def rows(g: torch.Generator) -> Tensor:
    return torch.randn(3, 7, 16, generator=g)


class Heads(nn.Module):
    """Self-attention by the fused function, 4 heads, twice in a row."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.projection = nn.Linear(16, 48)
        self.settings = settings

    def attend(self, x: Tensor) -> Tensor:
        query, key, value = self.projection(x).unflatten(2, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value, **self.settings).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.attend(x))


class Net(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.block = Heads(**settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "asked", [{}, {"need_weights": False}, {"average_attn_weights": False}], ids=["mean", "none", "heads"]
)
def test_a_module_of_pytorch_gives_its_weights_and_its_caller_what_it_asked(batch_first, asked, rows):
    layer = nn.MultiheadAttention(16, 4, dropout=0.5, batch_first=batch_first)
    x = rows if batch_first else rows.transpose(0, 1)
    answers = []

    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            answers.append(self.layer(x, x, x, **asked))
            return x

    found = attention_maps(Caller(), x)
    wanted = layer.eval()(x, x, x, average_attn_weights=False)
    assert list(found) == ["layer"]
    torch.testing.assert_close(found["layer"], wanted[1])
    output, weights = answers[0]
    torch.testing.assert_close(output, wanted[0])
    expected = layer(x, x, x, **asked)[1]
    if expected is None:
        assert weights is None
    else:
        torch.testing.assert_close(weights, expected)


def test_masks_by_position_and_by_name(rows):
    layer = nn.MultiheadAttention(16, 4, batch_first=True)
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[:, 5:] = True
    found = attention_maps(layer, rows, rows, rows, padding, False)
    assert list(found) == ["MultiheadAttention"]
    assert (found["MultiheadAttention"][..., 5:] == 0).all()
    torch.testing.assert_close(found["MultiheadAttention"].sum(-1), torch.ones(3, 4, 7))


def test_layers_of_a_transformer_that_would_take_the_fast_path(rows):
    """In evaluation mode PyTorch's encoder skips its attention module, unless something watches it."""
    layer = nn.TransformerEncoderLayer(16, 4, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    found = attention_maps(model, rows)
    assert list(found) == ["layers.0.self_attn", "layers.1.self_attn"]
    assert all(weights.shape == (3, 4, 7, 7) for weights in found.values())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    model.eval()
    first = model.get_submodule("layers.0.self_attn")(rows, rows, rows, average_attn_weights=False)[1]
    torch.testing.assert_close(found["layers.0.self_attn"], first)


def test_a_vision_transformer_of_torchvision():
    from torchvision.models import VisionTransformer

    model = VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=32)
    found = attention_maps(model, torch.rand(2, 3, 32, 32))
    assert list(found) == [f"encoder.layers.encoder_layer_{i}.self_attention" for i in (0, 1)]
    assert all(weights.shape == (2, 4, 17, 17) for weights in found.values())


MASK = torch.ones(7, 7, dtype=torch.bool).tril(1)
MASK[3] = False


@pytest.mark.parametrize(
    "settings",
    [{}, {"is_causal": True}, {"scale": 0.1}, {"attn_mask": MASK}, {"attn_mask": MASK.float()}],
    ids=["plain", "causal", "scale", "mask", "bias"],
)
def test_calls_of_the_fused_function(settings, rows):
    model = Net(**settings)
    found = attention_maps(model, rows)
    assert list(found) == ["block", "block#2"]
    query, key, _ = model.block.projection(rows).unflatten(2, (3, 4, 4)).permute(2, 0, 3, 1, 4)
    # The weights are what the function gives for the unit vectors as values.
    units = torch.eye(7).expand(3, 4, 7, 7)
    wanted = F.scaled_dot_product_attention(query, key, units, **settings)
    torch.testing.assert_close(found["block"], wanted.detach())


def test_grouped_queries(g):
    query, key = torch.randn(2, 4, 5, 8, generator=g), torch.randn(2, 2, 6, 8, generator=g)

    class Grouped(nn.Module):
        def forward(self, query: Tensor, key: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(query, key, key, enable_gqa=True)

    found = attention_maps(Grouped(), query, key)["Grouped"]
    wanted = F.scaled_dot_product_attention(query, key, torch.eye(6).expand(2, 2, 6, 6), enable_gqa=True)
    torch.testing.assert_close(found, wanted)


def test_rollout_by_hand():
    """A layer that swaps two positions mixes them, (A + 1) / 2 = [[½, ½], [½, ½]]; one that stays does nothing."""
    swap, stay = torch.tensor([[0.0, 1], [1, 0]])[None, None], torch.eye(2)[None, None]
    assert attention_rollout([stay, stay]).tolist() == [[[1, 0], [0, 1]]]
    assert attention_rollout([stay, swap]).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
    first = torch.tensor([[1.0, 0], [1, 0]])[None, None]  # all look at position 0
    assert attention_rollout([first, stay]).tolist() == [[[1, 0], [0.5, 0.5]]]
    assert attention_rollout([first, first]).tolist() == [[[1, 0], [0.75, 0.25]]]


def test_heads_are_averaged_and_rows_sum_to_one(g):
    maps = [torch.rand(3, 4, 5, 5, generator=g).softmax(-1) for _ in range(3)]
    rolled = attention_rollout(maps)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(3, 5))
    torch.testing.assert_close(attention_rollout([layer.mean(1, keepdim=True) for layer in maps]), rolled)


def test_hooks_go_when_the_model_fails(rows):
    model = nn.TransformerEncoderLayer(16, 4, batch_first=True)
    with pytest.raises(AssertionError):
        attention_maps(model, rows[..., :5])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.training


def test_what_does_not_attend_is_refused(mlp, table, rows):
    with pytest.raises(ArgumentError, match=r"a model with nn.MultiheadAttention or F.scaled_dot_product_attention"):
        attention_maps(mlp, table)
    function: Any = F.relu
    with pytest.raises(ArgumentError, match="model must be a module"):
        attention_maps(function, rows)


@pytest.mark.parametrize("maps", [[], [torch.ones(2, 3, 3)], [torch.ones(1, 1, 2, 3)]])
def test_maps_that_cannot_be_rolled_out(maps):
    with pytest.raises(ArgumentError, match=r"maps must be \(B, heads, T, T\), one per layer"):
        attention_rollout(maps)


def test_maps_of_other_lengths_cannot_be_rolled_out():
    with pytest.raises(ArgumentError, match="all layers with the same rows and positions"):
        attention_rollout([torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3)])

"""A small causal transformer that writes text, one symbol after the other, with and without a cache.

    x = x + attention(norm(x))
    x = x + mlp(norm(x))            pre-norm (Xiong et al. 2020), four times wide inside, GELU

Positions enter by rotating queries and keys (RoPE, Su et al. 2021), so that a score depends on how far apart two
symbols are. A cache keeps the keys and values of the symbols read so far: a new symbol then costs one row of
attention in place of a whole pass, and gives the same logits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data.batches import Batch
from coursekit.errors import ArgumentError
from coursekit.harness import Module
from coursekit.metrics import evaluating

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Attention as `attention(q, k, v, mask)`: mask (t, s) is True where a query may look, None where it may everywhere."""

Rotation = Callable[[Tensor, Tensor, float], Tensor]
"""Rotary positions as `rotate(x, positions, base)`, for x (..., t, d) and positions (t,)."""


def rotate(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Rotate pairs of features by angles that grow with the position (RoPE; Su et al. 2021, section 3.2.2).

    The pair (2j, 2j + 1) turns by position · base^(-2j/d). The product of a rotated query and a rotated key depends on
    the difference of their positions alone. Public weights of Llama pair j with j + d/2 instead: the same, up to the
    order of features.

    Args:
        x: (..., t, d), d even.
        positions: (t,), whole numbers.
        base: sets the slowest rotation.

    Raises:
        ArgumentError: d is odd.
    """
    width = x.shape[-1]
    if width % 2:
        raise ArgumentError("rotate", "an even number of features", got=width, fix="use an even head size")
    # Angles in float32 at least: bf16 cannot tell position 257 from 256.
    kind = torch.promote_types(x.dtype, torch.float32)
    speeds = base ** (-torch.arange(0, width, 2, device=x.device, dtype=kind) / width)
    angles = positions.to(kind)[:, None] * speeds
    cos, sin = angles.cos(), angles.sin()
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


class Cache:
    """Keys and values of the symbols read so far, in memory that is reserved once.

    Args:
        layers: blocks of the decoder.
        batch: sequences b.
        heads: heads h.
        context: the most positions it can hold.
        head_size: width of a head.
        device: where the decoder is.
        dtype: of its activations.

    Attributes:
        length: positions filled so far, the same in all layers.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        heads: int,
        context: int,
        head_size: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (layers, batch, heads, context, head_size)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0

    @property
    def context(self) -> int:
        """The most positions it can hold."""
        return self.keys.shape[-2]

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values (b, h, t, d) behind the old; return all of them (b, h, s, d)."""
        end = self.length + keys.shape[-2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class SelfAttention(nn.Module):
    """Causal multi-head attention with rotary positions (Vaswani et al. 2017, section 3.2.2).

    Args:
        width: features of the stream; divides by twice the heads.
        heads: heads h.
        attention: replaces `F.scaled_dot_product_attention`.
        rotation: replaces `rotate`.
    """

    def __init__(self, width: int, heads: int, attention: Attention | None, rotation: Rotation | None) -> None:
        super().__init__()
        self.heads, self.attention, self.rotation = heads, attention, rotation or rotate
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.merge = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, positions: Tensor, cache: Cache | None, layer: int) -> Tensor:
        """Return (b, t, d) for x (b, t, d) at positions (t,)."""
        split = self.project(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4)  # three times (b, h, t, d/h)
        q, k = self.rotation(q, positions, 10_000.0), self.rotation(k, positions, 10_000.0)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        return self.merge(self.attend(q, k, v).transpose(1, 2).flatten(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend causally; the queries are the last of the positions that the keys have."""
        queries, sources = q.shape[-2], k.shape[-2]
        # A single query is the newest symbol: it may see everything, and needs no mask. `is_causal` is only right
        # for as many queries as keys: PyTorch aligns its triangle top-left.
        if self.attention is None and (queries == 1 or queries == sources):
            return F.scaled_dot_product_attention(q, k, v, is_causal=queries > 1)
        mask = None
        if queries > 1:
            mask = torch.ones(queries, sources, dtype=torch.bool, device=q.device).tril(sources - queries)
        if self.attention is None:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.attention(q, k, v, mask)


class Block(nn.Module):
    """One layer: attention, then a multilayer perceptron, each on the normalised stream and added to it."""

    def __init__(
        self, width: int, heads: int, dropout: float, attention: Attention | None, rotation: Rotation | None
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, attention, rotation)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, cache: Cache | None, layer: int) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), positions, cache, layer))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Decoder(nn.Module):
    """A causal language model: symbols (b, t) in, logits (b, t, symbols) of the next symbol out.

    Args:
        symbols: size of the vocabulary.
        width: features of the stream; divides by twice the heads.
        layers: blocks.
        heads: heads h.
        context: the most positions it reads at once.
        dropout: probability of dropping a feature of the embedding or of a block's addition, in training.
        attention: replaces `F.scaled_dot_product_attention`: a learner's own function, or one to compare.
        rotation: replaces `rotate`, likewise.

    Raises:
        ArgumentError: the sizes are below 1, or the width does not divide by twice the heads.
    """

    def __init__(
        self,
        symbols: int,
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        context: int = 128,
        dropout: float = 0.0,
        attention: Attention | None = None,
        rotation: Rotation | None = None,
    ) -> None:
        super().__init__()
        sizes = {"symbols": symbols, "width": width, "layers": layers, "heads": heads, "context": context}
        if min(sizes.values()) < 1:
            raise ArgumentError("Decoder", "sizes of at least 1", got=sizes, fix="raise the one that is smaller")
        if width % (2 * heads):
            raise ArgumentError(
                "Decoder",
                "a width that divides by twice the heads, for heads rotate pairs of features",
                got=f"width {width}, heads {heads}",
                fix=f"use a width of {-(-width // (2 * heads)) * 2 * heads}",
            )
        self.context, self.heads = context, heads
        self.embedding = nn.Embedding(symbols, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, attention, rotation) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols, bias=False)
        # Small first weights keep the first loss near ln(symbols) (GPT-2's 0.02).
        for weight in (self.embedding.weight, self.head.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, symbols: Tensor, cache: Cache | None = None, *, last: bool = False) -> Tensor:
        """Return the logits of the symbol after each position.

        Args:
            symbols: int64 (b, t), those that follow what the cache holds.
            cache: from `new_cache`; the symbols are added to it.
            last: only the logits of the last position, (b, 1, symbols): all that writing needs.

        Raises:
            ArgumentError: more positions than the context, or than the cache.
        """
        start = cache.length if cache is not None else 0
        most = min(self.context, cache.context) if cache is not None else self.context
        end = start + symbols.shape[-1]
        if end > most:
            raise ArgumentError(
                "Decoder",
                f"at most {most} positions",
                got=end,
                fix="shorten the text, or build it with a longer context",
            )
        positions = torch.arange(start, end, device=symbols.device)
        x = self.dropout(self.embedding(symbols))
        for layer, block in enumerate(self.blocks):
            x = block(x, positions, cache, layer)
        if cache is not None:
            cache.length = end
        return self.head(self.norm(x[:, -1:] if last else x))

    def new_cache(self, batch: int = 1, positions: int | None = None) -> Cache:
        """Reserve a cache for this decoder, where its weights are.

        Args:
            batch: sequences b.
            positions: the most positions it will hold; None reserves the whole context.
        """
        weight = self.head.weight
        size = weight.shape[-1] // self.heads
        kind = (
            torch.get_autocast_dtype(weight.device.type)
            if torch.is_autocast_enabled(weight.device.type)
            else weight.dtype
        )
        return Cache(
            len(self.blocks), batch, self.heads, positions or self.context, size, device=weight.device, dtype=kind
        )


@torch.no_grad()
def generate(
    decoder: Decoder,
    symbols: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    cached: bool = True,
) -> Tensor:
    """Write `count` symbols after the given ones.

    With a cache the prompt is read once and every new symbol costs one row. Without it every symbol costs a pass over
    all before it: the same symbols come out, later. Runs in evaluation mode; the former mode comes back.

    Args:
        decoder: the model.
        symbols: int64 (b, t), t at least 1.
        count: symbols to write; t + count must fit the context.
        temperature: divides the logits; 0 takes the likeliest symbol.
        generator: draws the symbols, on the decoder's device; None takes PyTorch's global one.
        cached: whether keys and values are kept.

    Returns:
        int64 (b, t + count).

    Raises:
        ArgumentError: an empty prompt, a count or temperature below 0, or more positions than the context.
    """
    batch, length = symbols.shape
    if length < 1:
        raise ArgumentError("generate", "a prompt of at least one symbol", got=tuple(symbols.shape), fix="give it one")
    if count < 0 or temperature < 0:
        got = f"count {count}, temperature {temperature}"
        raise ArgumentError("generate", "a count and a temperature of at least 0", got=got, fix="raise it")
    if length + count > decoder.context:
        expected = f"prompt and new symbols within the context of {decoder.context}"
        raise ArgumentError(
            "generate", expected, got=f"{length} + {count}", fix=f"write at most {decoder.context - length}"
        )
    written = torch.cat([symbols, symbols.new_empty(batch, count)], dim=1)
    cache = decoder.new_cache(batch, length + count) if cached else None
    with evaluating(decoder):
        for end in range(length, length + count):
            unread = written[:, cache.length if cache is not None else 0 : end]
            logits = decoder(unread, cache, last=True)[:, -1]
            written[:, end] = _drawn(logits, temperature, generator)
    return written


Step = Callable[..., tuple[Tensor, Cache]]
"""One call of a writing model: `step(symbols, cache=None, start=0)` returns logits (b, t, symbols) and the cache."""


def stepper(decoder: Decoder) -> Step:
    """Return the decoder as exercise A8's `generate` takes it: without a cache, each call reserves a fresh one.

    Raises, when called:
        ArgumentError: as `Decoder.forward`, or a start that is not where the cache ends.
    """

    def step(symbols: Tensor, cache: Cache | None = None, start: int = 0) -> tuple[Tensor, Cache]:
        cache = decoder.new_cache(len(symbols)) if cache is None else cache
        if start != cache.length:
            raise ArgumentError(
                "step", f"the position that follows the cache, {cache.length}", got=start, fix="pass it"
            )
        return decoder(symbols, cache), cache

    return step


def generation_speedup(decoder: Decoder, symbols: Tensor, count: int, *, rounds: int = 3) -> float:
    """Return how many times longer `generate` takes without the cache: the median over rounds, in turns.

    CPU seconds of the process on the CPU, wall seconds on a GPU; greedy, after one short warm-up of each.
    """
    on_gpu = symbols.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    ratios = []
    for number in range(-1, rounds):
        marks = [clock()]
        for cached in (True, False):
            # Reading the last symbol waits for a GPU.
            generate(decoder, symbols, count if number >= 0 else 2, temperature=0, cached=cached)[0, -1].item()
            marks.append(clock())
        if number >= 0:
            ratios.append((marks[2] - marks[1]) / (marks[1] - marks[0]))
    return median(ratios)


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)[:, 0]


class LanguageModel(Module):
    """The harness's view of a decoder: cross entropy of the next symbol, in nats for each symbol.

    Mini-batches are pairs (b, t) of symbols and of those that follow them, as `coursekit.data.text` cuts them.
    Divide the loss by ln 2 for bits.
    """

    def training_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross entropy over all positions of one mini-batch."""
        symbols, following = batch
        return F.cross_entropy(self.network(symbols).flatten(0, 1), following.flatten()), {}

    def evaluation(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross entropy and the share of symbols that were the likeliest."""
        symbols, following = batch
        logits = self.network(symbols)
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())
        return {"loss": loss, "accuracy": logits.argmax(-1) == following}

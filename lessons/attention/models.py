"""The networks of the lesson, each with attention and without.

Every network that attends has a method `look`, which returns its weights beside its logits: the lesson draws them,
shuffles them and asks whether they explain anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attention = Callable[..., Tensor]
"""Attention as `attention(q, k, v)`, like `F.scaled_dot_product_attention`."""

Alignment = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Additive attention as `align(query, keys, values, Wq, Wk, v, mask)`, which returns context and weights."""

Choice = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Hard attention as `choose(scores)`, which returns a one-hot choice and the logarithm of its probability."""


# ---------------------------------------------------------------------------------------------- recall


class PairReader(nn.Module):
    """Names the value of the last key of a row. Subclasses say how the pairs before it are summed up.

    A pair is embedded as one vector, the sum of its key's and its value's. There are no positions: the order of pairs
    means nothing.

    Args:
        keys: different keys.
        values: different values.
        width: features d.
    """

    def __init__(self, keys: int, values: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(keys + values, width)
        self.head = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, values))

    def embed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pairs (b, s, d) and the query (b, d) of rows (b, 2s + 1)."""
        symbols = self.embedding(rows)
        return symbols[:, :-1:2] + symbols[:, 1::2], symbols[:, -1]

    def read(self, pairs: Tensor, query: Tensor) -> Tensor:
        """Sum up the pairs (b, s, d) for one query (b, d), as (b, d)."""
        raise NotImplementedError

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (b, 2s + 1) to logits (b, values)."""
        pairs, query = self.embed(rows)
        return self.answer(self.read(pairs, query), query)

    def answer(self, read: Tensor, query: Tensor) -> Tensor:
        """Return logits (..., values) for what was read (..., d) and what was asked (..., d)."""
        return self.head(torch.cat([read, query], -1))


class MeanReader(PairReader):
    """Without attention: the mean of all pairs, whatever is asked."""

    def read(self, pairs: Tensor, query: Tensor) -> Tensor:
        return pairs.mean(1)


class RecurrentReader(PairReader):
    """A GRU (Cho et al. 2014) that reads the pairs one after the other, and then the query."""

    def __init__(self, keys: int, values: int, width: int) -> None:
        super().__init__(keys, values, width)
        self.memory = nn.GRU(width, width, batch_first=True)

    def read(self, pairs: Tensor, query: Tensor) -> Tensor:
        states, _ = self.memory(torch.cat([pairs, query[:, None]], 1))
        return states[:, -1]


class AttentionReader(PairReader):
    """One head of attention: the query is compared with every pair (Vaswani et al. 2017, equation 1).

    Args:
        keys: different keys.
        values: different values.
        width: features d.
        attention: replaces `F.scaled_dot_product_attention`.
    """

    def __init__(self, keys: int, values: int, width: int, attention: Attention | None = None) -> None:
        super().__init__(keys, values, width)
        self.attention = attention or F.scaled_dot_product_attention
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))

    def read(self, pairs: Tensor, query: Tensor) -> Tensor:
        return self.attention(self.query(query)[:, None], self.key(pairs), self.value(pairs))[:, 0]

    def scores(self, pairs: Tensor, query: Tensor) -> Tensor:
        """Return how well each pair matches the query, (b, s), before the softmax."""
        return (self.key(pairs) @ self.query(query)[..., None])[..., 0] / math.sqrt(query.shape[-1])

    def look(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (b, values) and weights (b, s)."""
        pairs, query = self.embed(rows)
        return self.answer(self.read(pairs, query), query), self.scores(pairs, query).softmax(-1)

    def answer_with(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Return logits (b, values) under weights (b, s) that somebody else chose."""
        pairs, query = self.embed(rows)
        return self.answer((weights[:, None] @ self.value(pairs))[:, 0], query)


class HardReader(AttentionReader):
    """The same reader, but it takes one pair and no mean. While it learns it draws, later it takes the likeliest.

    Args:
        keys: different keys.
        values: different values.
        width: features d.
        choose: draws a one-hot choice from scores.
    """

    def __init__(self, keys: int, values: int, width: int, choose: Choice) -> None:
        super().__init__(keys, values, width)
        self.choose = choose

    def decide(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (b, values) and the log-probability of the choice (b,)."""
        pairs, query = self.embed(rows)
        scores, values = self.scores(pairs, query), self.value(pairs)
        if self.training:
            choice, log_prob = self.choose(scores)
            read = (choice[:, None] @ values)[:, 0]
        else:
            log_prob, place = scores.log_softmax(-1).max(-1)
            read = values.take_along_dim(place[:, None, None], 1)[:, 0]
        return self.answer(read, query), log_prob

    def forward(self, rows: Tensor) -> Tensor:
        return self.decide(rows)[0]


def straight_through(scores: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Draw one place, and give it the gradient of a soft choice with the same noise.

    `F.gumbel_softmax(scores, tau, hard=True)` (Jang, Gu & Poole 2017; Maddison, Mnih & Teh 2017). Its gradient is
    biased: the loss is taken at one place, and its slope where the soft choice is.
    """
    choice = F.gumbel_softmax(scores, tau, hard=True)
    return choice, (choice.detach() * scores.log_softmax(-1)).sum(-1)


def sampled(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one place, without a gradient through the choice: learn by its log-probability (Williams 1992)."""
    drawn = torch.distributions.Categorical(logits=scores)
    place = drawn.sample()
    return F.one_hot(place, scores.shape[-1]).to(scores.dtype), drawn.log_prob(place)


# ---------------------------------------------------------------------------------------------- translation


class AdditiveAttention(nn.Module):
    """A small network scores each state of the source (Bahdanau, Cho & Bengio 2015, appendix A.1.2).

    Args:
        width: features of query, keys and scores' hidden layer.
        align: replaces the formula: a learner's own function.
    """

    def __init__(self, width: int, align: Alignment | None = None) -> None:
        super().__init__()
        self.align = align
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)

    def prepare(self, memory: Tensor) -> Tensor:
        """Return what stays the same for all queries: the projected memory (b, s, d)."""
        return memory if self.align else self.key(memory)

    def forward(self, query: Tensor, memory: Tensor, prepared: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return context (b, d) and weights (b, s) of a query (b, d); mask (b, s) is True where a key may be seen."""
        if self.align:
            return self.align(query, memory, memory, self.query.weight, self.key.weight, self.score.weight[0], mask)
        hidden = (self.query(query)[:, None] + prepared).tanh()
        weights = self.score(hidden)[..., 0].masked_fill(~mask, -torch.inf).softmax(-1)
        return (weights[:, None] @ memory)[:, 0], weights


class Translator(nn.Module):
    """Two recurrent networks: one reads the source both ways, the other writes the target (Bahdanau et al. 2015).

    Without attention the writer gets one fixed vector, the reader's two last states (as in Cho et al. 2014): all that
    it may ever know of the source.

    Args:
        source: symbols of the source; number 0 is padding.
        target: symbols of the target.
        width: features d of a state, even.
        attends: whether the writer may look back.
        align: replaces the formula of additive attention.
        start: the number of the target's first symbol.
    """

    def __init__(
        self, source: int, target: int, width: int, *, attends: bool, start: int, align: Alignment | None = None
    ) -> None:
        super().__init__()
        self.start = start
        self.source, self.target = nn.Embedding(source, width, padding_idx=0), nn.Embedding(target, width)
        self.reader = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.attention = AdditiveAttention(width, align) if attends else None
        self.first = nn.Linear(width, width)
        self.writer = nn.GRUCell(2 * width, width)
        self.head = nn.Linear(2 * width, target)

    def read(self, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (b, s, d) of a source (b, s), and the last of each direction (b, d)."""
        lengths = (sentence != 0).sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.source(sentence), lengths, batch_first=True, enforce_sorted=False
        )
        states, last = self.reader(packed)
        memory, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=sentence.shape[1])
        return memory, last.transpose(0, 1).flatten(1)

    def look(self, sentence: Tensor, given: Tensor | None, steps: int) -> tuple[Tensor, Tensor]:
        """Write a target: after the given symbols (teacher forcing), or after what it wrote itself.

        Args:
            sentence: (b, s).
            given: (b, steps), the true symbols from the start on; None feeds back the likeliest ones.
            steps: symbols to write.

        Returns:
            Logits (b, steps, target) and weights (b, steps, s); weights of 0 without attention.
        """
        memory, last = self.read(sentence)
        mask = sentence != 0
        prepared = self.attention.prepare(memory) if self.attention else memory
        state, context, weights = self.first(last).tanh(), last, torch.zeros_like(memory[..., 0])
        before = self.target(sentence.new_full((len(sentence),), self.start))
        fed = None if given is None else self.target(given).unbind(1)
        seen, looks = [], []
        for step in range(steps):
            if fed is not None:
                before = fed[step]
            elif seen:
                before = self.target(self.head(seen[-1]).argmax(-1))
            if self.attention:
                context, weights = self.attention(state, memory, prepared, mask)
            state = self.writer(torch.cat([before, context], -1), state)
            seen.append(torch.cat([state, context], -1))
            looks.append(weights)
        return self.head(torch.stack(seen, 1)), torch.stack(looks, 1)

    def forward(self, sentence: Tensor, given: Tensor) -> Tensor:
        """Return logits (b, t, target) for a source (b, s) and the symbols (b, t) that the writer is fed."""
        return self.look(sentence, given, given.shape[1])[0]


# ---------------------------------------------------------------------------------------------- text


class RecurrentLanguageModel(nn.Module):
    """A GRU that reads characters and says which comes next: symbols (b, t) in, logits (b, t, symbols) out."""

    def __init__(self, symbols: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, symbols)

    def forward(self, symbols: Tensor) -> Tensor:
        return self.head(self.memory(self.embedding(symbols))[0])


def bigram_logits(train: Tensor, symbols: int, *, count: float = 0.1) -> Tensor:
    """Return log-probabilities (symbols, symbols) of a symbol after another, counted; row: the one before.

    Args:
        train: int64 (n,).
        symbols: size of the vocabulary.
        count: added to every count, so that no pair is impossible.
    """
    seen = torch.full((symbols * symbols,), count)
    seen += torch.bincount(train[:-1] * symbols + train[1:], minlength=symbols * symbols)
    return seen.view(symbols, symbols).log().log_softmax(-1)


# ---------------------------------------------------------------------------------------------- vision


class ConvolutionBody(nn.Module):
    """Three convolutions: images (b, 1, n, n) to places (b, n²/4, d), each with its neighbourhood in view."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, wide, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten(2).transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases (Vaswani et al. 2017, section 3.2.2).

    Args:
        width: features d, which the heads divide.
        heads: heads h.
        attend: replaces it all, as `attend(x, ctx, Wq, Wk, Wv, Wo, h)`: a learner's own function.
    """

    def __init__(self, width: int, heads: int, attend: Attention | None = None) -> None:
        super().__init__()
        self.heads, self.attend = heads, attend
        self.query, self.key, self.value, self.merge = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, t, d) for x (b, t, d)."""
        if self.attend:
            parts = (self.query, self.key, self.value, self.merge)
            return self.attend(x, x, *(part.weight for part in parts), self.heads)
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return self.merge(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class EncoderBlock(nn.Module):
    """Self-attention, then a multilayer perceptron, each on the normalised stream and added to it."""

    def __init__(self, width: int, heads: int, attend: Attention | None = None) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, attend)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Return sines and cosines of the position, (length, width), slower from pair to pair (Vaswani et al. 2017, 3.5).

    Sines stand in the first half of the features and cosines in the second; the paper takes turns, which is the same
    up to the order.
    """
    speeds = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], -1)


class TransformerBody(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021): images (b, 1, n, n) to patches (b, n²/16, d).

    Args:
        width: features d, which the heads divide.
        layers: blocks.
        heads: heads h.
        positions: (n²/16, d), added to the patches; None leaves them a set.
        attend: replaces multi-head attention.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        heads: int = 4,
        positions: Tensor | None = None,
        attend: Attention | None = None,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, stride=4)
        self.positions: Tensor | None
        self.register_buffer("positions", positions)
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads, attend) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        return self.encode(self.patches(images).flatten(2).transpose(1, 2))

    def encode(self, patches: Tensor) -> Tensor:
        """Return (b, s, d) for embedded patches (b, s, d)."""
        if self.positions is not None:
            patches = patches + self.positions
        return self.norm(self.blocks(patches))


class PlaceClassifier(nn.Module):
    """Names the class of an image from its places, summed up by their mean, their maximum, or attention.

    Args:
        body: images (b, 1, n, n) to places (b, s, d), row by row.
        width: features d.
        classes: how many.
        pooling: `mean`, `max` or `attention`: a learned query through a layer of tanh (as Ilse et al. 2018).
    """

    def __init__(self, body: nn.Module, width: int, classes: int, pooling: str) -> None:
        super().__init__()
        self.body, self.pooling = body, pooling
        self.head = nn.Linear(width, classes)
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))
        if pooling != "attention":
            self.score = None

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, 1, n, n) to logits (b, classes)."""
        places = self.body(images)
        if self.pooling == "max":
            return self.head(places.amax(1))
        return self.head((self.weights(places)[:, None] @ places)[:, 0])

    def weights(self, places: Tensor) -> Tensor:
        """Return how much each place counts, (b, s): all the same without attention."""
        if self.score is None:
            return places.new_full(places.shape[:2], 1 / places.shape[1])
        return self.score(places)[..., 0].softmax(-1)

    def evidence(self, images: Tensor) -> Tensor:
        """Return where the network says that it looked, (b, s), at least 0 with sum 1.

        With attention its weights. Without, the class activation map of the predicted class (Zhou et al. 2016): what
        each place adds to that logit, cut at 0.
        """
        places = self.body(images)
        if self.score is not None:
            return self.weights(places)
        peaks, where = places.max(1)
        if self.pooling == "max":
            added = self._likeliest_weights(peaks) * peaks  # (b, d): each feature counts at one place alone
            evidence = torch.zeros_like(places[..., 0]).scatter_add(1, where, added.clamp(min=0))
        else:
            evidence = (places * self._likeliest_weights(places.mean(1))[:, None]).sum(-1).clamp(min=0)
        return evidence / evidence.sum(-1, keepdim=True).clamp(min=1e-12)

    def _likeliest_weights(self, summed: Tensor) -> Tensor:
        return self.head.weight[self.head(summed).argmax(-1)]


# ---------------------------------------------------------------------------------------------- explanation


class RowReader(nn.Module):
    """Reads an image row by row, both ways, and names its class from all states, weighted.

    Args:
        features: pixels in a row.
        classes: how many.
        width: features of a state, even.
        attends: whether weights are learned (additive, with one learned query), or all the same.
    """

    def __init__(self, features: int, classes: int, width: int, *, attends: bool) -> None:
        super().__init__()
        self.reader = nn.GRU(features, width // 2, batch_first=True, bidirectional=True)
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))
        self.head = nn.Linear(width, classes)
        self.attends = attends

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (b, classes) and weights (b, rows) for images (b, 1, rows, features)."""
        states, _ = self.reader(images[:, 0])
        weights = self.score(states)[..., 0]
        weights = weights.softmax(-1) if self.attends else torch.full_like(weights, 1 / weights.shape[-1])
        return self.head((weights[:, None] @ states)[:, 0]), weights

    def answer_with(self, images: Tensor, weights: Tensor) -> Tensor:
        """Return logits (b, classes) under weights (b, rows) that somebody else chose."""
        states, _ = self.reader(images[:, 0])
        return self.head((weights[:, None] @ states)[:, 0])

    def forward(self, images: Tensor) -> Tensor:
        return self.look(images)[0]

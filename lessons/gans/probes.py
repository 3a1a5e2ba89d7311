"""Code that runs beside the learner's: networks, optimizers and noise, which do not cross the wire as values.

Each probe takes the learner's names as `code` and returns plain values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU."""
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------ ls_losses, hinge_losses


def slopes_of_pair(code: Any, name: str, real: Tensor, fake: Tensor) -> dict[str, Any]:
    """Return the gradients of both losses of a pair: of d by real and fake, of g by fake."""
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    d, g = getattr(code, name)(real, fake)
    of_d = torch.autograd.grad(d, (real, fake), allow_unused=True, retain_graph=True)
    (of_g,) = torch.autograd.grad(g, (fake,), allow_unused=True)
    return {"d by real": of_d[0], "d by fake": of_d[1], "g by fake": of_g}


# --------------------------------------------------------------------------------------- gan_step


class Drawing(nn.Module):
    """A generator with one layer: tanh(z · weight).

    Args:
        weight: (latent, features).
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self, z: Tensor) -> Tensor:
        """Return samples (n, features) of noise (n, latent)."""
        return (z @ self.weight).tanh()


class Judging(nn.Module):
    """A discriminator with two layers: tanh(x · inner) · outer.

    Args:
        inner: (features, hidden).
        outer: (hidden,) for logits (n,), or (hidden, 1) for logits (n, 1).
    """

    def __init__(self, inner: Tensor, outer: Tensor) -> None:
        super().__init__()
        self.inner = nn.Parameter(inner.clone())
        self.outer = nn.Parameter(outer.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of samples (n, features)."""
        return (x @ self.inner).tanh() @ self.outer


def values_of(network: nn.Module) -> list[Tensor]:
    """Return copies of a network's parameters."""
    return [parameter.detach().clone() for parameter in network.parameters()]


def gradients_of(network: nn.Module) -> list[Tensor | None]:
    """Return copies of a network's gradients, None where there is none."""
    return [None if p.grad is None else p.grad.detach().clone() for p in network.parameters()]


def gan_steps(
    code: Any,
    drawing: Tensor,
    judging: list[Tensor],
    reals: list[Tensor],
    noise: list[Tensor],
    lr: float,
    leftover: float | None = None,
    training: bool = True,
) -> dict[str, Any]:
    """Take one step for each batch of real samples, with plain SGD.

    Args:
        drawing: weight of the generator.
        judging: both weights of the discriminator.
        noise: what `z` hands out, in this order.
        leftover: number that fills every gradient before the first step; None leaves them empty.
        training: mode in which both networks are handed over.

    Returns:
        losses: what each step returned.
        shapes: of these losses; `graph`: whether one of them carries a graph.
        asked: the numbers of rows that `z` was asked for.
        order: whose optimizer stepped, `D` or `G`, one after the other.
        G, D: parameters after each step of `gan_step`.
        at D, at G: what was found when an optimizer was about to step: parameters and gradients of both networks.
        modes, open: of both networks afterwards: whether in training mode; whether each parameter wants gradients.
    """
    G, D = Drawing(drawing), Judging(*judging)
    G.train(training)
    D.train(training)
    opt_g, opt_d = (torch.optim.SGD(network.parameters(), lr=lr) for network in (G, D))
    if leftover is not None:
        for parameter in (*G.parameters(), *D.parameters()):
            parameter.grad = torch.full_like(parameter, leftover)
    found: dict[str, Any] = {"losses": [], "asked": [], "order": [], "G": [], "D": [], "at G": [], "at D": []}
    queue = iter(noise)

    def z(rows: int) -> Tensor:
        found["asked"].append(rows)
        return next(queue)

    def look(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            found["order"].append(name)
            networks = {"G": G, "D": D}
            seen = {f"{one} values": values_of(network) for one, network in networks.items()}
            seen |= {f"{one} gradients": gradients_of(network) for one, network in networks.items()}
            found[f"at {name}"].append(seen)

        return hook

    opt_g.register_step_pre_hook(look("G"))
    opt_d.register_step_pre_hook(look("D"))
    graph = False
    for real in reals:
        losses = code.gan_step(G, D, opt_g, opt_d, real, z)
        graph |= any(isinstance(loss, Tensor) and loss.requires_grad for loss in losses)
        found["losses"].append(losses)
        found["G"].append(values_of(G))
        found["D"].append(values_of(D))
    modes = [network.training for network in (G, D)]
    wanting = [p.requires_grad for network in (G, D) for p in network.parameters()]
    return {**found, "graph": graph, "modes": modes, "open": wanting}


# ------------------------------------------------------------------------------- gradient_penalty


class Critic(nn.Module):
    """A critic with given weights, for samples of any rank.

    Args:
        kind: `linear` is x · a; `smooth` is tanh(x · A) · b; `dead` is relu(x · A − 1000) · b, flat wherever samples
            are; `bowl` is ½ · ‖x‖², with a parameter that is not used.
        weights: a (features,); or A (features, hidden) and b (hidden,).
        column: whether scores are (n, 1) instead of (n,).
    """

    def __init__(self, kind: str, weights: list[Tensor], column: bool = False) -> None:
        super().__init__()
        self.kind, self.column = kind, column
        self.weights = nn.ParameterList([nn.Parameter(weight.clone()) for weight in weights])

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of samples (n, ...)."""
        rows, (first, *rest) = x.flatten(1), list(self.weights)
        match self.kind:
            case "linear":
                scores = rows @ first
            case "smooth":
                scores = (rows @ first).tanh() @ rest[0]
            case "dead":
                scores = (rows @ first - 1000).relu() @ rest[0]
            case _:
                scores = rows.square().sum(1) / 2
        return scores[:, None] if self.column else scores


def penalty(
    code: Any,
    real: Tensor,
    fake: Tensor,
    lam: float,
    seed: int,
    kind: str,
    weights: list[Tensor],
    column: bool = False,
) -> dict[str, Any]:
    """Compute a penalty, and its gradients by the critic's weights.

    Returns:
        penalty: the value.
        gradients: of the penalty, by each weight; zero where it does not depend on one.
        touched: whether a `.grad` of the critic was filled by the call itself.
    """
    critic = Critic(kind, weights, column)
    value = code.gradient_penalty(critic, real, fake, lam, generator(seed))
    touched = any(p.grad is not None for p in critic.parameters())
    gradients = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    return {"penalty": value, "gradients": list(gradients), "touched": touched}


def penalties(
    code: Any, real: Tensor, fake: Tensor, lam: float, seeds: list[int], times: int, noise: int
) -> list[list[Tensor]]:
    """Compute penalties of the critic ½ · ‖x‖², so many for each seed, one after the other from one generator.

    Args:
        noise: seeds PyTorch's global generator, from which nothing should come.
    """
    torch.manual_seed(noise)
    critic = Critic("bowl", [real.new_ones(1)])
    found = []
    for seed in seeds:
        g = generator(seed)
        found.append([code.gradient_penalty(critic, real, fake, lam, g).detach() for _ in range(times)])
    return found


def penalty_elsewhere(code: Any, real: Tensor, fake: Tensor, lam: float, seed: int, weights: list[Tensor]) -> Any:
    """Compute a penalty on the CPU where the default device is "meta", whose tensors hold no numbers.

    A tensor that is made without a device then lies on "meta", as it would lie on the CPU beside a GPU.
    """
    critic, g = Critic("smooth", weights), torch.Generator(device="cpu").manual_seed(seed)
    with torch.device("meta"):
        return code.gradient_penalty(critic, real, fake, lam, g)


def penalty_with_graphs(
    code: Any, real: Tensor, fake: Tensor, lam: float, seed: int, weights: list[Tensor]
) -> dict[str, Any]:
    """Compute a penalty of samples that come with graphs, and go back through it.

    Returns:
        reached: whether a gradient reached the real samples, and what generated the others.
        penalty: the value.
    """
    critic = Critic("smooth", weights)
    sources = [samples.clone().requires_grad_() for samples in (real, fake)]
    value = code.gradient_penalty(critic, sources[0] * 1.0, sources[1] * 1.0, lam, generator(seed))
    value.backward()
    return {"reached": [source.grad is not None for source in sources], "penalty": value}


def penalty_with_norm(code: Any, layer: str, training: bool, samples: Tensor, lam: float, seed: int) -> Any:
    """Compute a penalty of a critic with a normalising layer.

    Args:
        layer: `BatchNorm1d`, `BatchNorm2d` or `LayerNorm`.
        training: mode of the critic.
    """
    torch.manual_seed(seed)
    features = samples.shape[1]
    norm = {"BatchNorm1d": nn.BatchNorm1d, "BatchNorm2d": nn.BatchNorm2d, "LayerNorm": nn.LayerNorm}[layer](features)
    width = samples[0].numel()
    critic = nn.Sequential(nn.Sequential(norm, nn.Tanh()), nn.Flatten(), nn.Linear(width, 1)).to(samples.dtype)
    critic.train(training)
    value = code.gradient_penalty(critic, samples, samples, lam, generator(seed))
    return {"penalty": value, "weight": critic[2].weight}


# ----------------------------------------------------------------------------------- SpectralNorm


def fresh_buffers(code: Any, weight: Tensor, times: int, **settings: Any) -> list[tuple[Tensor, Tensor]]:
    """Return u and v of so many new modules."""
    made = [code.SpectralNorm(weight, **settings) for _ in range(times)]
    return [(one.u.clone(), one.v.clone()) for one in made]


def divided(
    code: Any,
    weight: Tensor,
    u: Tensor,
    v: Tensor,
    forwards: list[bool],
    **settings: Any,
) -> dict[str, Any]:
    """Run forwards from given buffers.

    Args:
        forwards: for each forward, whether it runs in training mode.

    Returns:
        outputs: of each forward.
        u, v: after each forward.
        weight: the raw weight afterwards.
        learned: how many parameters the module has; `kept`: the names in its state_dict.
        graph: whether a buffer carries a gradient.
    """
    module = code.SpectralNorm(weight, **settings)
    with torch.no_grad():
        module.u.copy_(u)
        module.v.copy_(v)
    raw = nn.Parameter(weight.clone())
    found: dict[str, Any] = {"outputs": [], "u": [], "v": []}
    for training in forwards:
        module.train(training)
        found["outputs"].append(module(raw))
        found["u"].append(module.u.detach().clone())
        found["v"].append(module.v.detach().clone())
    found["weight"] = raw.detach()
    found["learned"] = len(list(module.parameters()))
    found["kept"] = sorted(module.state_dict())
    found["graph"] = module.u.requires_grad or module.v.requires_grad
    return found


def slope_of_quotient(
    code: Any, weight: Tensor, u: Tensor, v: Tensor, directions: list[Tensor], training: bool = True
) -> dict[str, Any]:
    """Run one forward for each direction, then go back through the sum of all ⟨direction, output⟩ at once.

    Returns:
        gradient: by the raw weight.
        outputs: of the forwards.
    """
    module = code.SpectralNorm(weight)
    with torch.no_grad():
        module.u.copy_(u)
        module.v.copy_(v)
    module.train(training)
    raw = nn.Parameter(weight.clone())
    outputs = [module(raw) for _ in directions]
    total = torch.stack([(direction * output).sum() for direction, output in zip(directions, outputs, strict=True)])
    total.sum().backward()
    return {"gradient": raw.grad, "outputs": outputs}


def restored(code: Any, weight: Tensor, forwards: int) -> dict[str, Any]:
    """Run training forwards, then carry the state over into a new module; return what both give in evaluation mode."""
    first = code.SpectralNorm(weight)
    for _ in range(forwards):
        first(weight)
    second = code.SpectralNorm(weight)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    return {"before": first.eval()(weight), "after": second.eval()(weight)}


def layer_in_training(
    code: Any, weight: Tensor, u: Tensor, v: Tensor, inputs: Tensor, steps: int, lr: float
) -> dict[str, Any]:
    """Train a layer with the parametrization, to make its outputs small: SGD on the mean of their squares.

    Args:
        weight: (out, in) for a Linear, (out, in, height, width) for a Conv2d.

    Returns:
        losses: before each step.
        raw: the raw weight after the steps; `same`: whether it is the Parameter that the layer had before.
        weight: what the layer uses afterwards, in evaluation mode.
    """
    outputs, features, *kernel = weight.shape
    layer: nn.Linear | nn.Conv2d
    if kernel:
        layer = nn.Conv2d(features, outputs, (kernel[0], kernel[1]), bias=False, dtype=weight.dtype)
    else:
        layer = nn.Linear(features, outputs, bias=False, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
    parameter = layer.weight
    normalise = code.SpectralNorm(layer.weight)
    parametrize.register_parametrization(layer, "weight", normalise)
    with torch.no_grad():  # after the registration, which calls forward once
        normalise.u.copy_(u)
        normalise.v.copy_(v)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = layer(inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    layer.eval()
    (raw,) = layer.parameters()
    return {"losses": losses, "raw": raw.detach(), "same": raw is parameter, "weight": layer.weight.detach()}


# -------------------------------------------------------------------------------------- train_gan


def trained(code: Any, digits: Tensor, noise: Tensor, seed: int, alone: int) -> dict[str, Any]:
    """Train a GAN on digits as the exercise states, and draw images.

    Args:
        digits: real images (rows, 64) from which the mini-batches are drawn.
        noise: (n, 16), for the images.
        seed: of batches and noise in training; the networks begin with PyTorch's global generator.
        alone: how many of the images are made once more, each by itself.

    Returns:
        images: (n, 64).
        alone: (alone, 64).
    """
    g = generator(seed)
    G = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())
    D = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
    opt_g, opt_d = (torch.optim.Adam(part.parameters(), lr=0.006, betas=(0.5, 0.9), fused=True) for part in (G, D))
    batches = (digits[torch.randint(len(digits), (64,), generator=g)] for _ in range(300))
    sampler = code.train_gan(G, D, opt_g, opt_d, batches, lambda n: torch.randn(n, 16, generator=g), g=g)
    with torch.no_grad():
        images = sampler(noise.clone())
        singly = torch.cat([sampler(row[None].clone()) for row in noise[:alone]])
    return {"images": images, "alone": singly}

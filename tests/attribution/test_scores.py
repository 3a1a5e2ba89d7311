"""What all methods promise: bad arguments are named, and nothing of the caller's is changed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import coursekit.attribution as attribution
from coursekit.errors import ArgumentError

SEGMENTS = attribution.grid_segments(10, 10, 5)


def _g() -> torch.Generator:
    return torch.Generator().manual_seed(3)


# Every method on pictures (B, 2, 10, 10), as a function of model, inputs, target and batch_size.
METHODS: dict[str, Callable[..., Tensor]] = {
    "gradient": attribution.gradient,
    "saliency": attribution.saliency,
    "input_times_gradient": attribution.input_times_gradient,
    "smoothgrad": lambda *a, **k: attribution.smoothgrad(*a, sigma=0.1, draws=5, generator=_g(), **k),
    "integrated_gradients": lambda *a, **k: attribution.integrated_gradients(*a, steps=7, **k),
    "expected_gradients": lambda *a, **k: attribution.expected_gradients(*a, draws=5, sigma=0.1, generator=_g(), **k),
    "grad_cam": lambda *a, **k: attribution.grad_cam(*a, layer=a[0].features[3], **k),
    "guided_backpropagation": attribution.guided_backpropagation,
    "deconvolution": attribution.deconvolution,
    "guided_grad_cam": lambda *a, **k: attribution.guided_grad_cam(*a, layer="features.3", **k),
    "occlusion": lambda *a, **k: attribution.occlusion(*a, window=4, stride=3, **k),
    "feature_ablation": lambda *a, **k: attribution.feature_ablation(*a, segments=SEGMENTS, **k),
    "feature_permutation": lambda *a, **k: attribution.feature_permutation(*a, segments=SEGMENTS, generator=_g(), **k),
    "lime": lambda *a, **k: attribution.lime(*a, segments=SEGMENTS, samples=40, generator=_g(), **k).coefficients,
    "shapley_exact": lambda *a, **k: attribution.shapley_exact(*a, segments=SEGMENTS, **k),
    "kernel_shap": lambda *a, **k: attribution.kernel_shap(*a, segments=SEGMENTS, samples=14, generator=_g(), **k),
    "permutation_shap": lambda *a, **k: attribution.permutation_shap(
        *a, segments=SEGMENTS, permutations=3, generator=_g(), **k
    ),
    "deletion_curve": lambda *a, **k: attribution.deletion_curve(*a, attribution=a[1][:, 0], steps=4, **k).scores,
    "insertion_curve": lambda *a, **k: attribution.insertion_curve(*a, attribution=a[1][:, 0], steps=4, **k).scores,
    "random_areas": lambda *a, **k: attribution.random_areas(*a, draws=2, steps=4, generator=_g(), **k),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


@every_method
def test_nothing_of_the_callers_changes(method, cnn, pictures, targets):
    cnn.train()
    cnn.features.eval()  # a part frozen in evaluation mode stays there
    before, rows, aims = copy.deepcopy(cnn.state_dict()), pictures.clone(), targets.clone()
    random_state = torch.get_rng_state()
    method(cnn, pictures, targets)
    assert cnn.training
    assert not cnn.features.training
    assert [module.inplace for module in cnn.modules() if isinstance(module, nn.ReLU)] == [True, False]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in cnn.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in cnn.parameters())
    for name, value in cnn.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    torch.testing.assert_close(pictures, rows, rtol=0, atol=0)
    torch.testing.assert_close(targets, aims, rtol=0, atol=0)
    assert not pictures.requires_grad
    assert pictures.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)


@every_method
def test_a_model_may_write_over_its_input(method, cnn, pictures, targets):
    rows, baseline = pictures.clone(), torch.zeros(1, 2, 10, 10, dtype=torch.float64)
    handle = cnn.register_forward_pre_hook(lambda _, args: (args[0].clone().mul_(0.5),))
    wanted = method(cnn, pictures, targets)
    handle.remove()
    cnn.register_forward_pre_hook(lambda _, args: (args[0].mul_(0.5),))
    torch.testing.assert_close(method(cnn, pictures, targets), wanted)
    torch.testing.assert_close(pictures, rows, rtol=0, atol=0)
    attribution.completeness_error(rows, cnn, pictures[:1].expand(4, -1, -1, -1), targets, baseline=baseline)
    assert (baseline == 0).all()


@every_method
def test_the_size_of_a_pass_changes_nothing(method, cnn, pictures, targets):
    whole = method(cnn, pictures, targets)
    assert whole.dtype == torch.float64
    assert not whole.requires_grad
    for batch_size in (1, 3, 1000):
        torch.testing.assert_close(method(cnn, pictures, targets, batch_size=batch_size), whole, rtol=1e-10, atol=1e-12)


# These draw for the batch as a whole: what a row gets depends on the others.
DRAWN_TOGETHER = {"smoothgrad", "expected_gradients", "feature_permutation", "random_areas"}


@pytest.mark.parametrize("method", [call for name, call in METHODS.items() if name not in DRAWN_TOGETHER])
def test_rows_are_explained_apart(method, cnn, pictures, targets):
    whole = method(cnn, pictures, targets)
    for row, target in enumerate(targets.tolist()):
        torch.testing.assert_close(
            method(cnn, pictures[row : row + 1], target), whole[row : row + 1], rtol=1e-10, atol=1e-12
        )


@every_method
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_in_any_gradient_mode(method, mode, cnn, pictures, targets):
    whole = method(cnn, pictures, targets)
    with mode():
        inside = method(cnn, pictures.clone(), targets)
    torch.testing.assert_close(inside.clone(), whole, rtol=1e-10, atol=1e-12)


@every_method
def test_float32_and_channels_last_change_only_rounding(method, cnn, pictures, targets):
    """The network flattens by `.view`, and is run in the usual layout; its copy takes channels last as well."""
    cnn, pictures = cnn.float(), pictures.float()
    wanted = method(cnn, pictures, targets)
    assert wanted.dtype == torch.float32
    flattened = []
    flexible = copy.deepcopy(cnn)
    flexible.dropout.register_forward_pre_hook(lambda _, args: flattened.append(args[0].shape))
    flexible.forward = lambda x: flexible.head(flexible.dropout(flexible.features(x).flatten(1)))
    found = method(flexible, pictures.mT.contiguous().mT, targets)
    assert flattened
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


BAD = {
    "integers": (lambda x, y: (x.long(), y), "inputs must be floating"),
    "no rows": (lambda x, y: (x[:0], y[:0]), "at least one row"),
    "NaN": (lambda x, y: (torch.where(x > 2, torch.nan, x), y), "inputs must be finite"),
    "infinity": (lambda x, y: (torch.where(x > 2, torch.inf, x), y), "inputs must be finite"),
    "targets of another batch": (lambda x, y: (x, y[:2]), r"one per row, shape \(4,\)"),
    "targets that are no indices": (lambda x, y: (x, y.double()), "target must be an index"),
    "target above": (lambda x, y: (x, 5), "target must be from 0 to 4. Got 5"),
    "target below": (lambda x, y: (x, -1), "target must be from 0 to 4. Got -1"),
    "no target": (lambda x, y: (x, None), "target must name one of the model's outputs"),
}


@every_method
@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_named(method, spoil, words, cnn, pictures, targets):
    pictures[0, 0, 0, 0] = 3
    if method is METHODS["deletion_curve"] or method is METHODS["insertion_curve"]:
        words = f"{words}|attribution must be"
    with pytest.raises(ArgumentError, match=words) as caught:
        method(cnn, *spoil(pictures, targets))
    assert "Fix: " in str(caught.value)


@every_method
def test_a_pass_of_no_rows_is_refused(method, cnn, pictures, targets):
    with pytest.raises(ArgumentError, match="batch_size must be at least 1"):
        method(cnn, pictures, targets, batch_size=0)


@pytest.mark.parametrize("name", ["saliency", "occlusion", "lime", "integrated_gradients"])
def test_a_model_with_one_output_needs_no_target(name, cnn, pictures):
    wanted = METHODS[name](cnn, pictures, 2)
    for output in (lambda x: cnn.eval()(x)[:, 2], lambda x: cnn.eval()(x)[:, 2:3]):
        torch.testing.assert_close(METHODS[name](output, pictures), wanted)
    with pytest.raises(ArgumentError, match="target must be None for a model with one output"):
        METHODS[name](lambda x: x.sum((1, 2, 3)), pictures, 0)


@pytest.mark.parametrize("output", [lambda x: x, lambda x: x.sum(), lambda x: (x,), lambda x: x[:1].flatten(1)])
def test_outputs_that_are_no_scores_are_refused(output, pictures):
    with pytest.raises(ArgumentError, match=r"outputs \(\d, K\)"):
        attribution.occlusion(output, pictures, 0, window=5)


def test_outputs_that_are_not_finite_are_refused(pictures):
    with pytest.raises(ArgumentError, match="outputs must be finite"):
        attribution.occlusion(lambda x: x.flatten(1).log(), pictures, 0, window=5)
    with pytest.raises(ArgumentError, match="gradients must be finite"):
        attribution.saliency(lambda x: (x - x).abs().sqrt().flatten(1) + x.flatten(1), pictures, 0)


def test_a_score_without_a_gradient_is_refused(pictures):
    for output in (lambda x: x.detach().flatten(1), lambda x: torch.ones(len(x), 3, requires_grad=True)):
        with pytest.raises(ArgumentError, match="depend on the inputs by differentiable steps"):
            attribution.saliency(output, pictures, 0)


def test_an_error_of_the_model_itself_comes_through(pictures):
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("the model's own words")

    with pytest.raises(RuntimeError, match="the model's own words"):
        attribution.saliency(broken, pictures, 0)


BASELINES = {
    "a number": 0.5,
    "one row": torch.full((2, 10, 10), 0.5, dtype=torch.float64),
    "one row of a batch": torch.full((1, 2, 10, 10), 0.5, dtype=torch.float64),
    "one per row": torch.full((4, 2, 10, 10), 0.5, dtype=torch.float64),
    "a value per channel": torch.full((2, 1, 1), 0.5, dtype=torch.float64),
    "several": torch.full((3, 1, 2, 10, 10), 0.5, dtype=torch.float64),
    "several per row": torch.full((3, 4, 2, 10, 10), 0.5, dtype=torch.float32),
}


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES.keys())
@pytest.mark.parametrize(
    "method",
    [
        lambda *a, **k: attribution.integrated_gradients(*a, steps=3, **k),
        lambda *a, **k: attribution.expected_gradients(*a, draws=3, generator=_g(), **k).sum(),
        lambda *a, **k: attribution.occlusion(*a, window=5, **k),
        lambda *a, **k: attribution.shapley_exact(*a, segments=SEGMENTS, **k),
    ],
    ids=["integrated_gradients", "expected_gradients", "occlusion", "shapley_exact"],
)
def test_the_same_baseline_in_any_shape(method, baseline, cnn, pictures, targets):
    several = isinstance(baseline, Tensor) and baseline.ndim == 5
    wanted, found = method(cnn, pictures, targets, baseline=0.5), method(cnn, pictures, targets, baseline=baseline)
    if found.ndim == 0 and several:
        return  # other draws
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("baseline", [torch.zeros(3, 10, 10), torch.zeros(2, 2, 10, 10), torch.zeros(1, 1, 1, 2, 9, 9)])
def test_a_baseline_that_does_not_fit_is_refused(baseline, cnn, pictures, targets):
    with pytest.raises(ArgumentError, match="baseline must broadcast against inputs"):
        attribution.integrated_gradients(cnn, pictures, targets, baseline=baseline)


@pytest.mark.parametrize("baseline", [float("nan"), torch.full((2, 10, 10), torch.inf), torch.zeros(0, 1, 2, 10, 10)])
def test_a_baseline_that_is_not_finite_is_refused(baseline, cnn, pictures, targets):
    with pytest.raises(ArgumentError, match="baseline must be finite"):
        attribution.shapley_exact(cnn, pictures, targets, baseline=baseline, segments=SEGMENTS)

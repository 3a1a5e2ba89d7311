"""Why did the model say that: attributions for any `torch.nn.Module`, and tests of them.

    asks for gradients     asks for outputs only          looks inside           tests
    `saliency`             `occlusion`                    `grad_cam`             `completeness_error`
    `smoothgrad`           `lime`, `lime_tabular`         `attention_maps`       `deletion_curve`, `random_areas`
    `integrated_gradients` `shapley_exact`, `kernel_shap` `visualize_units`      `cascade`, `stability`

A method takes `model` (a module or a function), `inputs` (B, ...) and `target` (the output to explain), and explains
all rows at once. Modules are held in evaluation mode meanwhile, parameters get no gradient, and what the caller passed
stays as it was. Whatever is random takes a generator.
"""

from coursekit.attribution.attention_maps import attention_maps, attention_rollout
from coursekit.attribution.cam import deconvolution, grad_cam, guided_backpropagation, guided_grad_cam
from coursekit.attribution.evaluation import (
    Curve,
    Stability,
    completeness_error,
    deletion_curve,
    insertion_curve,
    random_areas,
    stability,
)
from coursekit.attribution.games import Game, MaskingGame
from coursekit.attribution.gradients import (
    RULES,
    expected_gradients,
    gradient,
    heatmap,
    input_times_gradient,
    integrated_gradients,
    quadrature,
    saliency,
    smoothgrad,
)
from coursekit.attribution.lime import LocalModel, lime, lime_tabular
from coursekit.attribution.occlusion import feature_ablation, feature_permutation, occlusion
from coursekit.attribution.pretrained import Pretrained, load_pretrained, weights_file
from coursekit.attribution.randomization import cascade, layers_with_parameters, randomize_layers
from coursekit.attribution.segments import grid_segments, paint, superpixels
from coursekit.attribution.shapley import (
    exact_values,
    kernel_coalitions,
    kernel_shap,
    kernel_values,
    permutation_shap,
    permutation_values,
    shapley_exact,
)
from coursekit.attribution.similarity import rank_correlation, structural_similarity
from coursekit.attribution.visualization import Visualization, visualize_units

__all__ = [
    "RULES",
    "Curve",
    "Game",
    "LocalModel",
    "MaskingGame",
    "Pretrained",
    "Stability",
    "Visualization",
    "attention_maps",
    "attention_rollout",
    "cascade",
    "completeness_error",
    "deconvolution",
    "deletion_curve",
    "exact_values",
    "expected_gradients",
    "feature_ablation",
    "feature_permutation",
    "grad_cam",
    "gradient",
    "grid_segments",
    "guided_backpropagation",
    "guided_grad_cam",
    "heatmap",
    "input_times_gradient",
    "insertion_curve",
    "integrated_gradients",
    "kernel_coalitions",
    "kernel_shap",
    "kernel_values",
    "layers_with_parameters",
    "lime",
    "lime_tabular",
    "load_pretrained",
    "occlusion",
    "paint",
    "permutation_shap",
    "permutation_values",
    "quadrature",
    "random_areas",
    "randomize_layers",
    "rank_correlation",
    "saliency",
    "shapley_exact",
    "smoothgrad",
    "stability",
    "structural_similarity",
    "superpixels",
    "visualize_units",
    "weights_file",
]

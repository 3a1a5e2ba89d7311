"""The confined side of grading: a warm process that forks one locked-down worker for each exercise.

    judge  ──►  warm process  ──fork──►  supervisor  ──fork──►  worker, locked down, runs the learner's code

The warm process has PyTorch imported, once. The judge's side is `coursekit.grading.warm`. Nothing here knows an
expected value, a reference or a seed to come.
"""

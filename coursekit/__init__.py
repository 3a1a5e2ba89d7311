"""coursekit: lessons you run, exercises you solve, graders that prove themselves."""

__version__ = "0.1.0"

"""Lesson 3: generative adversarial networks."""

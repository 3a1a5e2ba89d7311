"""Lesson 5: interpretability."""

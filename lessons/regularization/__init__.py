"""Lesson 2: regularization."""

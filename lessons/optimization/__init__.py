"""Lesson 1: optimization."""

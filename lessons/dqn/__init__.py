"""Lesson 4: deep Q-learning."""

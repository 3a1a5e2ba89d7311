"""Lesson 6: attention."""

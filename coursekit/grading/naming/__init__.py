"""Naming a mistake: matching a learner's results with known answers, and telling the smallest input that fails."""

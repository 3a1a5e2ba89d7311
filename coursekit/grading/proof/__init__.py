"""Proof of a lesson's checks: known answers and machine-made mutants, each of which must get its verdict."""

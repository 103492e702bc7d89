"""Oracles: what other programs (GNU as, gcc) make of the same input."""

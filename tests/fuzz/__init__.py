"""Random input, drawn by Hypothesis or from a seed."""

"""Training: the step, the loop, and what belongs to them."""

"""Ways to fill a target's module, how each is fitted, and how its logits are scored."""

"""How much is formed at once: every size is part of a figure's last bits, since sums are taken chunk by chunk."""

LOSS_ROWS = 64
"""Positions of a training step whose logits `[n, V]` and their gradient are formed at once: those of larger chunks
leave the processor's cache, smaller ones leave its units idle (`benchmarks/step_cost.py`)."""

LOGIT_ROWS = 128
"""Positions whose logits `[n, V]` are formed at once where there is no gradient, which needs half the room."""

EVALUATION_LOGITS = 2**17
"""Logits of an evaluation that are formed at once, positions times vocabulary: every arm's and the judges' are held
together (`benchmarks/evaluation_cost.py`)."""

PAIRED_ROWS = 2048
"""Paired positions that are read at once where moments of states, and no comparison of arms, are made of them."""

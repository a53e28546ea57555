"""From evidence rows to a verdict: intervals, contrasts, the protocol (no torch)."""

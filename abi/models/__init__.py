"""Backbones, their stored states, the ABI module, the one training loop, live attachment."""

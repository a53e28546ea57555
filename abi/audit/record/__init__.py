"""The published record judged by itself (standard library only)."""

"""Text as documents with groups and splits."""

"""The results of a checkout verified: untouched, consistent, fresh, reproduced."""

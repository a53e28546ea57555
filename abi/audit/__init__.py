"""Files judged after the fact: the published record, and the results of a checkout (no torch)."""

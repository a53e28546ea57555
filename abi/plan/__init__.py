"""Configuration as data, and what every job of the DAG depends on."""

DEFAULT = "tiny"
"""The scale that stands where none is named."""
PRETRAINED = "real"
"""The scale whose verdicts, on models that others trained, stand beside those of the default."""

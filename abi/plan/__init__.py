"""Configuration as data, and what every job of the DAG depends on."""

"""The report of a run: what was claimed and found, written once as blocks and rendered as HTML and as Markdown."""

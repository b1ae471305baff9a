"""Pages, and the scripts that generate some of them. In: docstrings and reports. Out: Markdown."""

"""tau-bench behind the trial protocol; see bench.py."""

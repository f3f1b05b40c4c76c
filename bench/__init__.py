"""The benchmark: what the pipeline costs, beside what else would do its work, and its floor."""

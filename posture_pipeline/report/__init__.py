"""The report pages: an organization page and a page a workload, made from what the lake holds."""

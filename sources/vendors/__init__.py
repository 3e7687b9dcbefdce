"""One folder per vendor; vendors never import each other."""

"""The graph: types over records. Knows no vendor, no HTTP and no SQL."""

"""Running an operation: planned once, column by column, under the schema's policy; docs/executor.md explains it."""

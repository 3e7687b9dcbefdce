"""Running an operation under the schema's policy."""

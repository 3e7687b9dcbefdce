"""One file per kind of system: its records and its Protocol. Depends on nothing else in the house."""

"""The door: everything between a socket and an executed operation."""

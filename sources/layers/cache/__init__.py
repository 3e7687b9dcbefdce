"""What was read from the back offices and is still good: ports over ports, below the scope layer."""

"""The gateway's own book in PostgreSQL: links between systems, organisations and OAuth tokens."""

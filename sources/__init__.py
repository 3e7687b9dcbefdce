"""The back offices behind the graph: ports, the connectors that fill them, and what they share."""

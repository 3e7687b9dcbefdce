"""SCIM 2.0 (RFC 7643, 7644): a customer's directory creates, changes and removes the members of its organisation."""

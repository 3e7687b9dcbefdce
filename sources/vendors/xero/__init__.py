"""Xero: the accounting connector and its emulator."""

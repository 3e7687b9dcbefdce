"""Zendesk as a helpdesk."""

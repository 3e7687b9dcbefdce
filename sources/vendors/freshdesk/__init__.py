"""Freshdesk as a helpdesk, by way of a mirror."""

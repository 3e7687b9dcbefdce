"""Ports made of ports: matching of accounts across systems, and the view that one caller has of all of them."""

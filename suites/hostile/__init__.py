"""Hostile tenants: what they try against a victim namespace, and what the victim has of it."""

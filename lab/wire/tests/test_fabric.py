"""Smoke of the wire: tester, scapy, switch, capture, rules, in one pass."""

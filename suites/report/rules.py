"""The rules of namespaces (N) and of the boundary (B) in a few words each, for the report."""

from __future__ import annotations

TITLES = {
    "N1": "A socket belongs to the namespace it was created in, for life",
    "N2": "Interfaces, addresses, routes, neighbours and conflicts are the socket's namespace's",
    "N3": "A received frame belongs to the namespace of the interface it arrives on",
    "N4": "Nothing is a key without its namespace",
    "N5": "One process may hold sockets in any number of namespaces",
    "N6": "No call gives a process what is another namespace's",
    "N7": "Sockets keep their namespace alive; nothing else does",
    "N8": "An interface may move, go down, be renamed or vanish under live traffic",
    "N9": "What cannot be accelerated goes on through the kernel, counted, with its reason",
    "N10": "With and without acceleration a program sees the same",
    "N11": "The cost of a packet does not depend on the number of namespaces",
    "N12": "A namespace without accelerated sockets pays nothing",
    "B1": "The kernel rests on memory that no process can write",
    "B2": "What a process can map, or the wire sent, describes nothing to the kernel",
    "B3": "A frame, a call, an event costs a bounded constant",
    "B4": "What a tenant uses is charged to it, and every table has shares",
    "B5": "No lock that others wait for is held while sleeping",
    "B6": "No pointer into a module outlives it; memory that the card may use does not change hands",
    "B7": "What the kernel would do with a packet, the fast path does, or yields",
    "B8": "Nobody gets by us what he could not get without us",
}

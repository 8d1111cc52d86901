"""The card daemon: one process that serves a lab's cards, its wire and its testers from one event loop."""

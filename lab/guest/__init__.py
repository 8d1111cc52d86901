"""The guest side of the lab: the agent that runs in the guest, and the client that speaks with it."""

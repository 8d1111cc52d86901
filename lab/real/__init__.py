"""What the lab borrows of this machine, and gives back as it was: cards, and interfaces cabled to them."""

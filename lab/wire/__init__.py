"""What a card's ports are plugged into: cables, switches, testers, their rules and their captures."""

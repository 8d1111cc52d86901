"""The small C core: the card's and the wire's hot loops, with the Python model as their oracle."""

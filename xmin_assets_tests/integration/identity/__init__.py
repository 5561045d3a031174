"""Is the source still the one that the copy was made from? Another answer leads to the right plan, and says why."""

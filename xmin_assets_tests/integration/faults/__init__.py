"""What happens to a sync from outside: kills, crashes, cuts, full disks, crowds. Afterwards the copy is whole."""

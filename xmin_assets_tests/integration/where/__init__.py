"""What a `where` means: as in psql, and for as long as the columns and types that it names are the same."""

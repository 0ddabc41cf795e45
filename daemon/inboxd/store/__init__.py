"""Everything that is kept: the only room with SQL. See README.md."""

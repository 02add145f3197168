"""Everything that reads or writes files, and the off-screen renderer."""

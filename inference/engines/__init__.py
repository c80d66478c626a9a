"""Which engines there are: those of the settings and those that people added. Everything that asks for engines asks here."""

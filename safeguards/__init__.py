"""What every app may stand on and none owns: how secrets are sealed, and which addresses may be connected to."""

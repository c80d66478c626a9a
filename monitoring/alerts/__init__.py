"""Rules over the series, the alerts they raise, and who is told."""

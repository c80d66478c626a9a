"""The history page: any time, any series, as charts, tables and files."""

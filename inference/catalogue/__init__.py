"""The models of all local engines: what is known of each, what a person may do with it, and what was done."""

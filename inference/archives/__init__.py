"""Models packed away: the list of them, and what is done with them. The packing itself is inference/work/archive.py."""

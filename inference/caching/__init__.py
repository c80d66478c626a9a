"""The gateway's cache as people see it: what it holds and saves, how near frames of a zone may be, and forgetting."""

"""What leaves the house: the last sample as families of metrics (families.py), as Prometheus text, over OTLP."""

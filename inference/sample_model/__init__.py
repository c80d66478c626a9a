"""The sample model `aicleaner-sample`: its corpus, its training and its test. README.md tells how it was made."""

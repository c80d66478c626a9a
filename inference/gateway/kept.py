"""Where in Valkey the gateway and the pages tell each other about loaded models. Nothing heavy in here: the pages load it."""

STATE_KEY = "aicleaner:gateway:memory"  # how things stand, for the pages
# A hash: `kept_field` -> until when a person keeps the model (unix time in s, or inf).
KEPT_KEY = "aicleaner:models:kept"


def kept_field(url: str, name: str) -> str:
    return f"{url} {name}"

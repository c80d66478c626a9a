"""Errors that a client sees.

EngineError             any status, text as Ollama words it
    ModelCrashedError   the model's process ended or broke off while it answered
"""


class EngineError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ModelCrashedError(EngineError):
    def __init__(self) -> None:
        super().__init__(500, "an error was encountered while running the model: unexpected EOF")

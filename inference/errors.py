"""InferenceError
├── JobInputError    a job's input is wrong; `field` says where
├── BusyError        another job is running on this host
├── NotAllowedError  the job's state does not allow it
└── EngineProblemError  an engine does not answer, or says no
"""


class InferenceError(Exception):
    """The text is a sentence for the person who asked."""


class JobInputError(InferenceError):
    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class BusyError(InferenceError):
    pass


class NotAllowedError(InferenceError):
    pass


class EngineProblemError(InferenceError):
    pass

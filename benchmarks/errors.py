"""What can be wrong with a run, as sentences for the person who asked for it.

BenchmarkError
├── EngineError      the engine does not answer, or answers what no engine should
│   └── AddressError an address that benchmarks are not sent to
├── KeyVariableError the environment variable with the API key
├── UnknownModelError a model that the engine does not have
├── BusyError        another run is running on this host
└── NotAllowedError  the run is not in a state for that
"""


class BenchmarkError(Exception):
    pass


class EngineError(BenchmarkError):
    pass


class AddressError(EngineError):
    pass


class KeyVariableError(BenchmarkError):
    pass


class UnknownModelError(BenchmarkError):
    pass


class BusyError(BenchmarkError):
    pass


class NotAllowedError(BenchmarkError):
    pass

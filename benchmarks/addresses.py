"""Which addresses a person may have requests sent to, and from which variable a key may be read."""

import os
import re
from urllib.parse import urlsplit

from benchmarks.errors import AddressError, KeyVariableError
from safeguards import addresses

# Not any variable: a form must not be a way to read DATABASE_URL or the site's own secrets.
KEY_VARIABLE = re.compile(r"(?!AICLEANER_)[A-Z][A-Z0-9_]{0,60}_API_KEY")
KEY_VARIABLE_HELP = "Give the name of an environment variable that ends in _API_KEY, e.g. OPENAI_API_KEY; never the key itself."


def check_address(url: str) -> str:
    """`url` without a closing slash. Raises AddressError that says what is wrong with it."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise AddressError(f"{url} is no address: {error}.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise AddressError(
            "Give an address that starts with http:// or https://, e.g. https://api.example.com/v1."
        )
    if parts.username is not None or parts.password is not None:
        raise AddressError(
            "Leave user name and password out of the address; name the variable with the API key instead."
        )
    if parts.query or parts.fragment:
        raise AddressError("Give the address without '?' and '#'.")
    try:
        addresses.resolve(parts.hostname, port)
    except addresses.AddressError as error:
        raise AddressError(str(error)) from error
    return url.strip().rstrip("/")


def read_key(variable: str) -> str:
    """The API key in environment variable `variable`. Raises KeyVariableError, which never quotes a value."""
    if not KEY_VARIABLE.fullmatch(variable):
        raise KeyVariableError(KEY_VARIABLE_HELP)
    key = os.environ.get(variable, "").strip()
    if not key:
        raise KeyVariableError(
            f"{variable} is not set where the product runs: set it there and start the product again."
        )
    return key

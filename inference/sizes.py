"""How many bytes, in words."""


def size(n_bytes: float) -> str:
    """With three digits, more where whole ones need them: `1.25 GiB`, `38.4 MiB`, `1,023 KiB`, `512 B`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= factor:
            found = n_bytes / factor
            return f"{found:,.{0 if found >= 99.95 else 1 if found >= 9.995 else 2}f} {unit}"
    return f"{n_bytes:.0f} B"

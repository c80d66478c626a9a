"""What goes wrong with backups. Each text is for the person at the terminal.

BackupError
  DamagedError   the file is not whole, or not one of ours
"""


class BackupError(Exception):
    pass


class DamagedError(BackupError):
    pass

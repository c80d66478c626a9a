"""Backups of the whole data folder, and the way back.

contents   which files of the folder are saved
databases  a copy of the database while others write to it, and its migrations
waiting    request records that wait in Valkey for the database
packing    the file: a tar within Zstandard, written and read
manifest   what stands at its end: versions, sizes, SHA-256
making     `manage.py backup`
restoring  `manage.py restore`
swapping   a new folder takes the place of the old one in one step
"""

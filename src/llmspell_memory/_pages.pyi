# Types of the native layer under SQLite (native/sqlite_vfs_bindings.cpp).

VFS: str
PAGE_BYTES: int
CHECKSUM_BYTES: int
APPLICATION_ID: int

def register_vfs(path: str) -> None: ...
def take_damaged_page() -> int: ...
def checksum(page: bytes, number: int) -> int: ...

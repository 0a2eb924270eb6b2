"""Values and errors as they travel over HTTP: JSON on one side and the library's own types on the other.

Server and client share this, so that what one writes the other reads. A vector travels as base64 of little-endian
float32, exact to the bit, and a moment as ISO 8601 to the microsecond. `root` is the namespace that the other side sees
as (): it is put before every namespace that comes in, and taken from every one that goes out. What servers share stands
here, too: where they may listen, and how they do.
"""

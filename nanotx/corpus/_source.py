"""What a file that is known to the byte must be."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a file lies, and what it must be."""

    url: str
    sha256: str
    size: int  # bytes

    def fault(self, data: bytes) -> str:
        """What is wrong with these bytes, in words; empty where they are the file."""
        digest = hashlib.sha256(data).hexdigest()
        if (len(data), digest) == (self.size, self.sha256):
            return ""
        size = f"more than {self.size}" if len(data) > self.size else f"{len(data)}"
        return f"expected {self.size} bytes with SHA-256 {self.sha256}, got {size} with {digest}"

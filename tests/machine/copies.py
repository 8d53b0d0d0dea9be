"""Finds every file of this machine that holds a private key, in PEM or as its bare number.

    copies.py KEY.pem

Prints a path a line. Looks into all file systems that hold files, memory-backed ones included;
not into those of the kernel, where there are none.
"""

import base64
import os
import stat
import sys

# Kernel file systems, and our own copy of the tests.
PASSED_OVER = ("/proc", "/sys", "/lab")


def needles(pem: str) -> list[bytes]:
    """What gives the key away: its lines of base64, its DER, and the secret number itself."""
    lines = [line for line in pem.splitlines() if line and not line.startswith("-")]
    der = base64.b64decode("".join(lines))
    # PKCS#8 holds an ECPrivateKey (RFC 5915): 02 01 01 04 20, and then the 32 bytes of the number.
    start = der.index(bytes.fromhex("0201010420")) + 5
    # The first line is the same for all keys of a kind.
    return [lines[1].encode(), der, der[start : start + 32]]


def main() -> None:
    with open(sys.argv[1], encoding="ascii") as file:
        wanted = needles(file.read())
    for folder, folders, files in os.walk("/"):
        folders[:] = [it for it in folders if os.path.join(folder, it) not in PASSED_OVER]
        for name in files:
            path = os.path.join(folder, name)
            try:
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    continue
                with open(path, "rb") as file:
                    content = file.read()
            except OSError:
                continue
            if any(needle in content for needle in wanted):
                print(path)


if __name__ == "__main__":
    main()

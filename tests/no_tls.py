"""What clients of tests that speak plain HTTP are made with.

Each httpx client would read whom TLS is to trust: 27 ms of CPU, for nothing.
"""

import ssl

# Trusts nobody.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

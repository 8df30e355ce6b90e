"""What is wrong with a certificate that was made by somebody trusted, in words."""

from __future__ import annotations

import ssl
from typing import Final

# By X509_V_ERR_* of OpenSSL's x509_vfy.h.
_FLAWS: Final = {
    9: "is not valid yet by this machine's clock",
    10: "has expired by this machine's clock",
    62: "is for another name than {}",
    64: "is for another name than {}",
}


def certificate_flaw(error: ssl.SSLCertVerificationError, name: str) -> str:
    """The end of a sentence about the certificate; "" where it is its issuer that is not trusted."""
    return _FLAWS.get(error.verify_code, "").format(name)

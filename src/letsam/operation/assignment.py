"""Which model serves whom during a rollout: by a hash of a key, so that nobody is moved back and forth."""

from __future__ import annotations

import hashlib

from letsam import checks

__all__ = ["assigned"]

_STEPS = 2**64


def assigned(key: str | bytes | int, share: float, salt: str = "") -> bool:
    """Whether the challenger serves this key, when it serves a share of all keys.

    The hash of salt and key is a place between 0 and 1 that looks random, and the challenger serves the places below
    the share. The answer is therefore the same in every process and on every machine, and a key that the challenger
    serves stays with it as the share grows.

    Args:
        key: what stays with its model, such as the id of a user; 7 and "7" are the same key.
        share: of the keys that the challenger serves, from 0 to 1.
        salt: another one for each rollout, so that not always the same users come first.

    Returns:
        True: the challenger serves it; False: the champion.

    Raises:
        TypeError, ValueError: a key of another type, or a share out of range.

    Example:
        >>> first, later = ({key for key in range(1000) if assigned(key, share, "v2")} for share in (0.01, 0.10))
        >>> len(first), len(later), first <= later
        (9, 95, True)
    """
    if isinstance(key, bool) or not isinstance(key, (str, bytes, int)):
        raise TypeError(f"`key` must be text, bytes or a whole number, got {checks.shown(key)}")
    if not isinstance(salt, str):
        raise TypeError(f"`salt` must be text, got {checks.shown(salt)}")
    if not 0 <= checks.number("share", share) <= 1:
        raise ValueError(f"`share` must be between 0 and 1, got {share}")
    content = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
    prefix = hashlib.sha256(
        salt.encode("utf-8", "surrogatepass")
    ).digest()  # of one length, so that none runs into a key
    place = int.from_bytes(hashlib.sha256(prefix + content).digest()[:8], "big")
    return place < share * _STEPS

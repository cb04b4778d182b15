"""The header of a quant on the Hub: by range requests at its commit, once, then from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick import gguf_header, hub
from quantpick.domain.plan import targets_of
from quantpick.domain.policy import Policy
from quantpick.remote import RemoteBytes, read_range
from quantpick.sources import header_cache

if TYPE_CHECKING:
    from quantpick.domain.header import Header
    from quantpick.domain.listing import Listing, QuantSet

#: Bytes of the first request, and of the first for a further shard, which has no key-values to
#: speak of. A tokenizer takes some requests more; past 16 MiB, where no known header reaches, they
#: get larger.
_FIRST = 256 << 10
_FIRST_OF_SHARD = 32 << 10
_NEXT = 2 << 20
_FAR = 16 << 20


def read_remote(listing: Listing, quant: QuantSet) -> Header:
    """Return the header of a quant, with the tables of all its shards.

    Raises IntegrityError for a header that is wrong and the errors of remote.read_range.
    """
    cached = header_cache.load(listing, quant)
    if cached is not None:
        return cached
    policy = Policy()
    web = hub.connect(policy)
    targets = targets_of(quant.files)
    firsts = [_FIRST, *[_FIRST_OF_SHARD] * (len(targets) - 1)]
    headers = [
        _read_one(
            # Of raw byte parts the first: a header is not longer.
            RemoteBytes(web, listing.repo_id, listing.revision, target.parts[0]),
            target.size,
            first,
            policy,
        )
        for target, first in zip(targets, firsts, strict=True)
    ]
    header = gguf_header.join_shards(headers, [target.path for target in targets])
    header_cache.store(listing, quant, header)
    return header


def _read_one(source: RemoteBytes, size: int, first: int, policy: Policy) -> Header:
    file = source.file

    def fetch(start: int, least: int) -> bytes:
        step = first if start == 0 else max(_NEXT, start // 4 if start > _FAR else 0)
        length = min(max(least, step), file.size - start)
        return read_range(source, start, length, policy) if length > 0 else b""

    return gguf_header.parse_header(fetch, size, file.path)

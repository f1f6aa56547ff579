"""Typed additions to ezkl: calldata for a Solidity verifier, without importing ezkl."""

from ezkl_patches.calldata import encode_verify_calldata

__all__ = ["encode_verify_calldata"]

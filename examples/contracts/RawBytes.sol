// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Inputs and outputs arrive as abi.encode(bytes raw, bytes processed); the services send the raw.
function rawBytes(bytes calldata both) pure returns (bytes memory raw) {
    (raw,) = abi.decode(both, (bytes, bytes));
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Numbers as a circuit of ezkl has them: integers in units of 2**-scale, its quanta, which stand
// as elements of BN254's scalar field.

// The order of that field (EIP-196); negative numbers stand at its upper end.
uint256 constant FIELD_ORDER = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;
uint256 constant MAX_DECIMALS = 36;
uint256 constant MAX_SCALE = 64;

/// round(scaled / 10**decimals * 2**scale), half away from zero. Up to `MAX_DECIMALS` and
/// `MAX_SCALE` nothing overflows.
function toQuanta(int128 scaled, uint8 decimals, uint8 scale) pure returns (int256) {
    int256 value = scaled;
    uint256 magnitude = uint256(value < 0 ? -value : value);
    uint256 divisor = 10 ** uint256(decimals);
    uint256 rounded = ((magnitude << scale) + divisor / 2) / divisor;
    return value < 0 ? -int256(rounded) : int256(rounded);
}

/// The integer of a field element.
function toInteger(uint256 element) pure returns (int256) {
    if (element <= FIELD_ORDER / 2) return int256(element);
    return int256(element) - int256(FIELD_ORDER);
}

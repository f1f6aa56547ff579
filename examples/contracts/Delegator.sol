// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {IDelegator} from "./IInfernet.sol";

/// A consumer for which somebody may ask by a signature instead of a transaction.
abstract contract Delegator is IDelegator {
    address private immutable SIGNER;

    /// The zero address allows nobody.
    constructor(address signer) {
        SIGNER = signer;
    }

    function getSigner() external view returns (address) {
        return SIGNER;
    }
}

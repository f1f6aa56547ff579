// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Numbers with 18 decimals that anyone may change, as an oracle of prices holds them.
contract DataFeed {
    int256[] private values;

    constructor(int256[] memory values_) {
        values = values_;
    }

    function set(uint256 position, int256 value) external {
        values[position] = value;
    }

    function all() external view returns (int256[] memory) {
        return values;
    }

    function firstTwo() external view returns (int256, int256) {
        return (values[0], values[1]);
    }

    function one(uint256 position) external view returns (int256) {
        return values[position];
    }
}

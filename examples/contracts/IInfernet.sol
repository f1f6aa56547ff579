// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// What a consumer and the Infernet coordinator (SDK 1.x) know of each other.

/// A wish for compute. A callback is one with `frequency` 1 and `period` 0.
struct Subscription {
    address owner; // the consumer, which gets the answer
    uint32 activeAt;
    uint32 period;
    uint32 frequency;
    uint16 redundancy; // how many nodes shall answer
    bytes32 containerId; // keccak256(abi.encode("first,second")): ids of a node's containers
    bool lazy;
    address verifier; // if not zero, the node asks the containers for a proof
    uint256 paymentAmount;
    address paymentToken;
    address wallet;
}

interface IRegistry {
    function COORDINATOR() external view returns (address);
}

interface ICoordinator {
    function createSubscription(
        string memory containerId,
        uint32 frequency,
        uint32 period,
        uint16 redundancy,
        bool lazy,
        address paymentToken,
        uint256 paymentAmount,
        address wallet,
        address verifier
    ) external returns (uint32 subscriptionId);
}

interface IConsumer {
    /// The input that a node hands to the first container.
    function getContainerInputs(
        uint32 subscriptionId,
        uint32 interval,
        uint32 timestamp,
        address caller
    ) external view returns (bytes memory);

    /// `input` is abi.encode(bytes raw, bytes processed), and so is `output`.
    function rawReceiveCompute(
        uint32 subscriptionId,
        uint32 interval,
        uint16 redundancy,
        address node,
        bytes calldata input,
        bytes calldata output,
        bytes calldata proof,
        bytes32 containerId,
        uint256 index
    ) external;
}

interface IDelegator {
    /// Whose signature makes a subscription for this consumer.
    function getSigner() external view returns (address);
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {IConsumer, ICoordinator, IRegistry} from "./IInfernet.sol";

/// A contract that asks containers and is called back with the answer.
///
/// Its functions are those of the Infernet SDK's CallbackConsumer, so a consumer that derives from
/// this works with Infernet's own coordinator too.
abstract contract CallbackConsumer is IConsumer {
    ICoordinator internal immutable COORDINATOR;

    mapping(uint32 subscriptionId => bytes) internal subscriptionInputs;

    error NotCoordinator();

    constructor(address registry) {
        COORDINATOR = ICoordinator(IRegistry(registry).COORDINATOR());
    }

    /// Ask the containers of `containerId` ("first,second" for a chain) once.
    function _requestCompute(
        string memory containerId,
        bytes memory inputs,
        uint16 redundancy,
        address paymentToken,
        uint256 paymentAmount,
        address wallet,
        address verifier
    ) internal returns (uint32 subscriptionId) {
        subscriptionId = COORDINATOR.createSubscription(
            containerId, 1, 0, redundancy, false, paymentToken, paymentAmount, wallet, verifier
        );
        subscriptionInputs[subscriptionId] = inputs;
    }

    /// What a consumer does with an answer; only the coordinator gets here.
    function _receiveCompute(
        uint32 subscriptionId,
        uint32 interval,
        uint16 redundancy,
        address node,
        bytes calldata input,
        bytes calldata output,
        bytes calldata proof,
        bytes32 containerId,
        uint256 index
    ) internal virtual;

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
    ) external {
        if (msg.sender != address(COORDINATOR)) revert NotCoordinator();
        _receiveCompute(
            subscriptionId, interval, redundancy, node, input, output, proof, containerId, index
        );
    }

    function getContainerInputs(uint32 subscriptionId, uint32, uint32, address)
        external
        view
        returns (bytes memory)
    {
        return subscriptionInputs[subscriptionId];
    }
}

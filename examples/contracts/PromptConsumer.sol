// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {CallbackConsumer} from "./CallbackConsumer.sol";
import {Delegator} from "./Delegator.sol";
import {rawBytes} from "./RawBytes.sol";

/// Asks a text service (llm, tgi) and keeps its answer as a string.
contract PromptConsumer is CallbackConsumer, Delegator {
    string public container;

    mapping(uint32 subscriptionId => string) public answers;
    mapping(uint32 subscriptionId => bytes) public proofs;

    /// `rawInput` is the question as the service read it: bytes from here, or the JSON of a
    /// delegated request.
    event Answered(uint32 indexed subscriptionId, address indexed node, bytes rawInput);

    constructor(address registry, address signer, string memory container_)
        CallbackConsumer(registry)
        Delegator(signer)
    {
        container = container_;
    }

    /// `inputs` is abi.encode(string question).
    function chatWithLLM(bytes memory inputs) public returns (uint32 subscriptionId) {
        return ask(container, inputs, address(0));
    }

    /// Ask a container, or a chain of them ("first,second"), with a proof for a verifier if any.
    function ask(string memory containerId, bytes memory inputs, address verifier)
        public
        returns (uint32 subscriptionId)
    {
        uint16 redundancy = 1;
        address paymentToken = address(0);
        uint256 paymentAmount = 0;
        address wallet = address(0);
        return _requestCompute(
            containerId, inputs, redundancy, paymentToken, paymentAmount, wallet, verifier
        );
    }

    function _receiveCompute(
        uint32 subscriptionId,
        uint32,
        uint16,
        address node,
        bytes calldata input,
        bytes calldata output,
        bytes calldata proof,
        bytes32,
        uint256
    ) internal override {
        answers[subscriptionId] = abi.decode(rawBytes(output), (string));
        proofs[subscriptionId] = proof;
        emit Answered(subscriptionId, node, rawBytes(input));
    }
}

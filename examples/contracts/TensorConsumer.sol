// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {CallbackConsumer} from "./CallbackConsumer.sol";
import {Delegator} from "./Delegator.sol";
import {rawBytes} from "./RawBytes.sol";

/// Asks a tensor service (classic ml) and keeps its answer as a tensor.
contract TensorConsumer is CallbackConsumer, Delegator {
    /// How numbers are written: as the bits of IEEE-754, or scaled by 10**decimals.
    uint8 internal constant IEEE = 0;
    uint8 internal constant FIXED_POINT = 1;
    uint8 internal constant FLOAT64 = 2;
    uint8 internal constant FLOAT128 = 3;

    struct Tensor {
        uint8 arithmetic;
        uint8 decimals;
        uint8 dtype;
        uint16[] shape;
        int256[] values; // of IEEE float64 the bits as int64, of fixed point the scaled numbers
    }

    mapping(uint32 subscriptionId => Tensor) private answers;

    /// `rawInput` is the request as the service read it: bytes from here, or the JSON of a
    /// delegated request.
    event Answered(uint32 indexed subscriptionId, address indexed node, bytes rawInput);

    error UnknownVector(uint8 arithmetic, uint8 dtype);

    constructor(address registry, address signer) CallbackConsumer(registry) Delegator(signer) {}

    /// Ask with float64 values, given as their 64 bits; the answer comes in the same form.
    function askIeee(string memory containerId, uint16[] memory shape, int64[] memory bits)
        external
        returns (uint32 subscriptionId)
    {
        bytes memory modelId = ""; // the model that the service has
        bytes memory vector = abi.encode(IEEE, uint8(0), FLOAT64, shape, bits);
        return _ask(containerId, abi.encode(modelId, vector));
    }

    /// Ask with numbers scaled by 10**decimals; the answer comes scaled alike.
    function askFixedPoint(
        string memory containerId,
        uint16[] memory shape,
        int128[] memory scaled,
        uint8 decimals
    ) external returns (uint32 subscriptionId) {
        bytes memory modelId = "";
        bytes memory vector = abi.encode(FIXED_POINT, decimals, FLOAT128, shape, scaled);
        return _ask(containerId, abi.encode(modelId, vector, FIXED_POINT, decimals));
    }

    function answer(uint32 subscriptionId)
        external
        view
        returns (
            uint8 arithmetic,
            uint8 decimals,
            uint8 dtype,
            uint16[] memory shape,
            int256[] memory values
        )
    {
        Tensor memory tensor = answers[subscriptionId];
        return (tensor.arithmetic, tensor.decimals, tensor.dtype, tensor.shape, tensor.values);
    }

    function _ask(string memory containerId, bytes memory inputs) internal returns (uint32) {
        return _requestCompute(containerId, inputs, 1, address(0), 0, address(0), address(0));
    }

    function _receiveCompute(
        uint32 subscriptionId,
        uint32,
        uint16,
        address node,
        bytes calldata input,
        bytes calldata output,
        bytes calldata,
        bytes32,
        uint256
    ) internal override {
        answers[subscriptionId] = _decode(rawBytes(output));
        emit Answered(subscriptionId, node, rawBytes(input));
    }

    function _decode(bytes memory vector) internal pure returns (Tensor memory tensor) {
        (tensor.arithmetic, tensor.decimals, tensor.dtype) =
            abi.decode(vector, (uint8, uint8, uint8));
        if (tensor.arithmetic == IEEE && tensor.dtype == FLOAT64) {
            int64[] memory bits;
            (,,, tensor.shape, bits) =
                abi.decode(vector, (uint8, uint8, uint8, uint16[], int64[]));
            tensor.values = new int256[](bits.length);
            for (uint256 i = 0; i < bits.length; i++) tensor.values[i] = bits[i];
        } else if (tensor.arithmetic == FIXED_POINT && tensor.dtype == FLOAT128) {
            int128[] memory scaled;
            (,,, tensor.shape, scaled) =
                abi.decode(vector, (uint8, uint8, uint8, uint16[], int128[]));
            tensor.values = new int256[](scaled.length);
            for (uint256 i = 0; i < scaled.length; i++) tensor.values[i] = scaled[i];
        } else {
            revert UnknownVector(tensor.arithmetic, tensor.dtype);
        }
    }
}

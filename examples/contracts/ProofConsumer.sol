// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {CallbackConsumer} from "./CallbackConsumer.sol";
import {MAX_DECIMALS, MAX_SCALE, toInteger, toQuanta} from "./CircuitNumber.sol";
import {rawBytes} from "./RawBytes.sol";

/// The contract that ezkl generates for one circuit.
interface IHalo2Verifier {
    function verifyProof(bytes calldata proof, uint256[] calldata instances)
        external
        returns (bool);
}

/// Asks a service for a proved answer and keeps it only if the proof holds: of this circuit, of the
/// inputs that were asked about, and with the outputs that are kept. A delivery that fails a check
/// is reverted with an error, and another may follow.
///
/// The circuit has one input and one output tensor, both public, and fixed parameters, so a proof's
/// instances are the inputs, then the outputs. What is kept are the outputs among the instances.
/// The delivered `output` proves nothing: it is only compared with them, within `outputTolerance`.
///
/// The subscription names the circuit's verifier, so that the node asks for a proof. A coordinator
/// of the Infernet SDK 1.x calls a subscription's verifier in one case: when there is a payment, to
/// release it. It then has to be an IVerifier of the SDK, which a circuit's verifier is not. This
/// contract pays nothing, and calls the verifier itself.
contract ProofConsumer is CallbackConsumer {
    uint8 internal constant FIXED_POINT = 1;
    uint8 internal constant FLOAT128 = 3;

    /// What the contract has to know of a circuit; a quantum is 2**-scale.
    struct Circuit {
        address verifier;
        uint16 inputs; // how many numbers
        uint16 outputs;
        uint8 inputScale;
        uint8 outputScale;
        // In quanta. 0 for float64 models; float32 rounds inputs of ±100 by up to 1 at scale 13.
        uint64 inputTolerance;
        // In quanta: what decimals cut off, and what a service's own model differs by.
        uint64 outputTolerance;
    }

    Circuit public circuit;
    string public container;
    string public modelId;

    mapping(uint32 subscriptionId => int256[]) private answers;

    event Answered(uint32 indexed subscriptionId, address indexed node);

    error NoContract(address verifier);
    error OutOfRange();
    error WrongCount(uint256 given, uint256 due);
    error NothingAsked(uint32 subscriptionId);
    error WrongSelector(bytes4 given);
    error InputMismatch(uint256 position, int256 asked, int256 proved);
    error OutputMismatch(uint256 position, int256 delivered, int256 proved);
    error ProofRefused();

    /// An empty `modelId_` is the model that the service has, or its first artifact.
    constructor(
        address registry,
        Circuit memory circuit_,
        string memory container_,
        string memory modelId_
    ) CallbackConsumer(registry) {
        if (circuit_.verifier.code.length == 0) revert NoContract(circuit_.verifier);
        if (circuit_.inputScale > MAX_SCALE || circuit_.outputScale > MAX_SCALE) {
            revert OutOfRange();
        }
        circuit = circuit_;
        container = container_;
        modelId = modelId_;
    }

    /// Ask about numbers scaled by 10**decimals, in C order.
    function ask(uint16[] memory shape, int128[] memory scaled, uint8 decimals)
        external
        returns (uint32 subscriptionId)
    {
        _requireCount(scaled.length, circuit.inputs);
        if (decimals > MAX_DECIMALS) revert OutOfRange();
        bytes memory vector = abi.encode(FIXED_POINT, decimals, FLOAT128, shape, scaled);
        bytes memory inputs = abi.encode(bytes(modelId), vector, FIXED_POINT, decimals);
        return _requestCompute(container, inputs, 1, address(0), 0, address(0), circuit.verifier);
    }

    /// The proved outputs; an integer n means n / 2**scale. Empty until they are there.
    function answer(uint32 subscriptionId)
        external
        view
        returns (int256[] memory outputs, uint8 scale)
    {
        return (answers[subscriptionId], circuit.outputScale);
    }

    function _receiveCompute(
        uint32 subscriptionId,
        uint32,
        uint16,
        address node,
        bytes calldata,
        bytes calldata output,
        bytes calldata proof,
        bytes32,
        uint256
    ) internal override {
        answers[subscriptionId] = _proved(subscriptionId, rawBytes(output), proof);
        emit Answered(subscriptionId, node);
    }

    function _proved(uint32 subscriptionId, bytes memory vector, bytes calldata proof)
        internal
        view
        returns (int256[] memory outputs)
    {
        uint256[] memory instances = _verify(proof);
        _compareInputs(subscriptionId, instances);
        outputs = new int256[](circuit.outputs);
        for (uint256 i = 0; i < outputs.length; i++) {
            outputs[i] = toInteger(instances[circuit.inputs + i]);
        }
        _compareOutputs(vector, outputs);
    }

    /// `encoded` is the calldata of verifyProof(proof, instances); returns the instances.
    function _verify(bytes calldata encoded) internal view returns (uint256[] memory instances) {
        bytes4 selector = encoded.length < 4 ? bytes4(0) : bytes4(encoded[:4]);
        if (selector != IHalo2Verifier.verifyProof.selector) revert WrongSelector(selector);
        bytes memory proof;
        (proof, instances) = abi.decode(encoded[4:], (bytes, uint256[]));
        _requireCount(instances.length, uint256(circuit.inputs) + circuit.outputs);
        // Encoded anew, so that the verifier reads the very instances that are looked at here.
        (bool success, bytes memory result) = circuit.verifier.staticcall(
            abi.encodeCall(IHalo2Verifier.verifyProof, (proof, instances))
        );
        if (!success || result.length != 32 || uint256(bytes32(result)) != 1) revert ProofRefused();
    }

    function _compareInputs(uint32 subscriptionId, uint256[] memory instances) internal view {
        bytes memory request = subscriptionInputs[subscriptionId];
        if (request.length == 0) revert NothingAsked(subscriptionId);
        (, bytes memory vector) = abi.decode(request, (bytes, bytes));
        (int128[] memory scaled, uint8 decimals) = _decode(vector);
        for (uint256 i = 0; i < scaled.length; i++) {
            int256 asked = toQuanta(scaled[i], decimals, circuit.inputScale);
            int256 proved = toInteger(instances[i]);
            if (_distance(asked, proved) > circuit.inputTolerance) {
                revert InputMismatch(i, asked, proved);
            }
        }
    }

    function _compareOutputs(bytes memory vector, int256[] memory outputs) internal view {
        (int128[] memory scaled, uint8 decimals) = _decode(vector);
        _requireCount(scaled.length, outputs.length);
        for (uint256 i = 0; i < scaled.length; i++) {
            int256 delivered = toQuanta(scaled[i], decimals, circuit.outputScale);
            if (_distance(delivered, outputs[i]) > circuit.outputTolerance) {
                revert OutputMismatch(i, delivered, outputs[i]);
            }
        }
    }

    function _decode(bytes memory vector)
        internal
        pure
        returns (int128[] memory scaled, uint8 decimals)
    {
        (, decimals,,, scaled) = abi.decode(vector, (uint8, uint8, uint8, uint16[], int128[]));
        if (decimals > MAX_DECIMALS) revert OutOfRange();
    }

    function _requireCount(uint256 given, uint256 due) internal pure {
        if (given != due) revert WrongCount(given, due);
    }

    function _distance(int256 a, int256 b) internal pure returns (uint256) {
        return uint256(a > b ? a - b : b - a);
    }
}

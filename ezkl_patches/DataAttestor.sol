// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

interface IHalo2Verifier {
    function verifyProof(bytes calldata proof, uint256[] calldata instances)
        external
        returns (bool);
}

/// Accepts a proof only if its public values are the data that other contracts hold right now.
contract DataAttestor {
    /// A call that yields `count` int256, in a row or as one int256[]; v means v / 10**decimals.
    struct Source {
        address account;
        bytes callData;
        uint8 decimals;
        uint8 scale; // the circuit computes with round(value * 2**scale)
        uint16 count;
    }

    /// The order of BN254's scalar field (EIP-196); negative numbers stand at its upper end.
    uint256 private constant FIELD_ORDER =
        0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;
    uint256 private constant MAX_DECIMALS = 36;
    uint256 private constant MAX_SCALE = 64;
    /// Within it, neither scaling nor comparing can overflow.
    uint256 private constant MAX_MAGNITUDE = 1 << 190;

    address public immutable verifier;
    uint256 public immutable instanceOffset;
    uint256 public immutable toleranceQuanta;
    Source[] private sources;

    error NoContract(address account);
    error NoSources();
    error OutOfRange(uint256 source);
    error WrongVerifier(address given);
    error WrongSelector(bytes4 given);
    error TooFewInstances(uint256 given);
    error SourceFailed(uint256 source);
    error DataMismatch(uint256 instance, int256 onChain, int256 inProof);
    error ProofRefused();

    constructor(
        address verifier_,
        Source[] memory sources_,
        uint256 instanceOffset_,
        uint256 toleranceQuanta_
    ) {
        if (verifier_.code.length == 0) revert NoContract(verifier_);
        if (sources_.length == 0) revert NoSources();
        verifier = verifier_;
        instanceOffset = instanceOffset_;
        toleranceQuanta = toleranceQuanta_;
        for (uint256 i = 0; i < sources_.length; i++) {
            Source memory source = sources_[i];
            if (source.account.code.length == 0) revert NoContract(source.account);
            if (source.decimals > MAX_DECIMALS || source.scale > MAX_SCALE || source.count == 0) {
                revert OutOfRange(i);
            }
            sources.push(source);
        }
    }

    /// `encoded` is the calldata of verifyProof(proof, instances). Returns true or reverts.
    function verifyWithDataAttestation(address verifier_, bytes calldata encoded)
        external
        view
        returns (bool)
    {
        if (verifier_ != verifier) revert WrongVerifier(verifier_);
        bytes4 selector = encoded.length < 4 ? bytes4(0) : bytes4(encoded[:4]);
        if (selector != IHalo2Verifier.verifyProof.selector) revert WrongSelector(selector);
        (bytes memory proof, uint256[] memory instances) =
            abi.decode(encoded[4:], (bytes, uint256[]));
        _compare(instances);
        // Encoded anew, so that the verifier reads the very instances that were compared.
        (bool success, bytes memory result) =
            verifier.staticcall(abi.encodeCall(IHalo2Verifier.verifyProof, (proof, instances)));
        if (!success || result.length != 32 || uint256(bytes32(result)) != 1) revert ProofRefused();
        return true;
    }

    function _compare(uint256[] memory instances) private view {
        uint256 position = instanceOffset;
        for (uint256 i = 0; i < sources.length; i++) {
            Source memory source = sources[i];
            bytes memory values = _read(i, source);
            if (position + source.count > instances.length) {
                revert TooFewInstances(instances.length);
            }
            for (uint256 j = 0; j < source.count; j++) {
                _compareOne(i, source, position++, _word(values, j), instances);
            }
        }
    }

    function _compareOne(
        uint256 i,
        Source memory source,
        uint256 position,
        int256 value,
        uint256[] memory instances
    ) private view {
        int256 onChain = _quantize(i, value, source);
        int256 inProof = _signed(instances[position]);
        int256 difference = onChain > inProof ? onChain - inProof : inProof - onChain;
        if (uint256(difference) > toleranceQuanta) {
            revert DataMismatch(position, onChain, inProof);
        }
    }

    /// The words of the values, without the head that an int256[] has.
    function _read(uint256 i, Source memory source) private view returns (bytes memory) {
        (bool success, bytes memory data) = source.account.staticcall(source.callData);
        if (!success) revert SourceFailed(i);
        if (data.length == uint256(source.count) * 32) return data;
        if (
            data.length != (uint256(source.count) + 2) * 32 || _word(data, 0) != 32
                || _word(data, 1) != int256(uint256(source.count))
        ) revert SourceFailed(i);
        int256[] memory values = abi.decode(data, (int256[]));
        return abi.encodePacked(values);
    }

    function _word(bytes memory data, uint256 index) private pure returns (int256 word) {
        assembly ("memory-safe") {
            word := mload(add(data, mul(add(index, 1), 32)))
        }
    }

    /// round(value * 2**scale / 10**decimals), half away from zero
    function _quantize(uint256 i, int256 value, Source memory source)
        private
        pure
        returns (int256)
    {
        uint256 magnitude = value < 0 ? uint256(-(value + 1)) + 1 : uint256(value);
        if (magnitude > MAX_MAGNITUDE) revert OutOfRange(i);
        uint256 divisor = 10 ** source.decimals;
        uint256 rounded = ((magnitude << source.scale) + divisor / 2) / divisor;
        return value < 0 ? -int256(rounded) : int256(rounded);
    }

    function _signed(uint256 element) private pure returns (int256) {
        if (element <= FIELD_ORDER / 2) return int256(element);
        return int256(element) - int256(FIELD_ORDER);
    }
}

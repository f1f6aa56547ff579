// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {IConsumer, ICoordinator, IDelegator, IRegistry, Subscription} from "./IInfernet.sol";

/// Stands in for Infernet's coordinator (and its registry) on a chain of your own, for tests.
///
/// It has the functions, events and signatures of Infernet's that a callback and a delegated
/// callback need. It knows no payments and calls no verifier: never use it where money is at stake.
contract Coordinator is ICoordinator, IRegistry {
    bytes32 private constant DOMAIN_TYPE = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    );
    bytes private constant SUBSCRIPTION =
        "Subscription(address owner,uint32 activeAt,uint32 period,uint32 frequency,uint16 redundancy,bytes32 containerId,bool lazy,address verifier,uint256 paymentAmount,address paymentToken,address wallet)";
    bytes32 private constant SUBSCRIPTION_TYPE = keccak256(SUBSCRIPTION);
    bytes32 private constant DELEGATED_TYPE = keccak256(
        bytes.concat(
            "DelegateSubscription(uint32 nonce,uint32 expiry,Subscription sub)", SUBSCRIPTION
        )
    );

    uint32 private lastId;
    mapping(uint32 subscriptionId => Subscription) private subscriptions;
    mapping(uint32 subscriptionId => uint16) private deliveries;
    mapping(uint32 subscriptionId => mapping(address node => bool)) private delivered;
    mapping(address owner => mapping(uint32 nonce => uint32)) private delegatedIds;

    event SubscriptionCreated(uint32 indexed id);
    event SubscriptionFulfilled(uint32 indexed id, address indexed node);

    error OnlyCallbacksWithoutPayment();
    error SubscriptionNotFound();
    error IntervalMismatch();
    error IntervalCompleted();
    error NodeRespondedAlready();
    error SignatureExpired();
    error SignerMismatch();

    function COORDINATOR() external view returns (address) {
        return address(this);
    }

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
    ) external returns (uint32) {
        return _store(
            Subscription({
                owner: msg.sender,
                activeAt: uint32(block.timestamp) + period,
                period: period,
                frequency: frequency,
                redundancy: redundancy,
                containerId: keccak256(abi.encode(containerId)),
                lazy: lazy,
                verifier: verifier,
                paymentAmount: paymentAmount,
                paymentToken: paymentToken,
                wallet: wallet
            })
        );
    }

    /// Create a subscription that its consumer's signer signed off-chain (EIP-712), only once.
    function createSubscriptionDelegatee(
        uint32 nonce,
        uint32 expiry,
        Subscription calldata sub,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) public returns (uint32 id) {
        id = delegatedIds[sub.owner][nonce];
        if (id != 0) return id;
        if (block.timestamp >= expiry) revert SignatureExpired();
        address signer = ecrecover(_digest(nonce, expiry, sub), v, r, s);
        if (signer == address(0) || signer != IDelegator(sub.owner).getSigner()) {
            revert SignerMismatch();
        }
        id = delegatedIds[sub.owner][nonce] = _store(sub);
    }

    function getSubscription(uint32 id) external view returns (Subscription memory) {
        return subscriptions[id];
    }

    /// What a node calls with what its containers answered.
    function deliverCompute(
        uint32 id,
        uint32 interval,
        bytes calldata input,
        bytes calldata output,
        bytes calldata proof,
        address
    ) public {
        Subscription memory sub = subscriptions[id];
        if (sub.owner == address(0)) revert SubscriptionNotFound();
        if (interval != 1) revert IntervalMismatch();
        if (deliveries[id] == sub.redundancy) revert IntervalCompleted();
        if (delivered[id][msg.sender]) revert NodeRespondedAlready();
        delivered[id][msg.sender] = true;
        uint16 count = ++deliveries[id];
        IConsumer(sub.owner).rawReceiveCompute(
            id, interval, count, msg.sender, input, output, proof, bytes32(0), 0
        );
        emit SubscriptionFulfilled(id, msg.sender);
    }

    function _store(Subscription memory sub) private returns (uint32 id) {
        bool isCallback = sub.frequency == 1 && sub.period == 0 && !sub.lazy;
        if (!isCallback || sub.paymentAmount != 0) revert OnlyCallbacksWithoutPayment();
        id = ++lastId;
        subscriptions[id] = sub;
        emit SubscriptionCreated(id);
    }

    function _digest(uint32 nonce, uint32 expiry, Subscription calldata sub)
        private
        view
        returns (bytes32)
    {
        bytes32 domain = keccak256(
            abi.encode(
                DOMAIN_TYPE,
                keccak256("InfernetCoordinator"),
                keccak256("1"),
                block.chainid,
                address(this)
            )
        );
        // A struct of static fields is encoded as its fields in a row.
        bytes32 subscription = keccak256(abi.encode(SUBSCRIPTION_TYPE, sub));
        bytes32 request = keccak256(abi.encode(DELEGATED_TYPE, nonce, expiry, subscription));
        return keccak256(abi.encodePacked("\x19\x01", domain, request));
    }
}

"""Typed additions to ezkl: proofs, public values and calldata, without importing ezkl."""

from ezkl_patches.attestation import (
    DATA_ATTESTOR_SOURCE,
    DataSource,
    encode_attestor_arguments,
    encode_data_attestation_calldata,
)
from ezkl_patches.calldata import decode_verify_calldata, encode_verify_calldata
from ezkl_patches.field import FIELD_ORDER, dequantize, quantize
from ezkl_patches.instances import DataMismatch, InstanceLayout, PublicTensor, PublicValues
from ezkl_patches.proof import Proof
from ezkl_patches.vka import encode_register_vka_calldata, load_vka, parse_vka

__all__ = [
    "DATA_ATTESTOR_SOURCE",
    "FIELD_ORDER",
    "DataMismatch",
    "DataSource",
    "InstanceLayout",
    "Proof",
    "PublicTensor",
    "PublicValues",
    "decode_verify_calldata",
    "dequantize",
    "encode_attestor_arguments",
    "encode_data_attestation_calldata",
    "encode_register_vka_calldata",
    "encode_verify_calldata",
    "load_vka",
    "parse_vka",
    "quantize",
]

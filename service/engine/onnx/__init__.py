"""ONNX Runtime on the CPU: any depth plan from one set of int8 weights, without torch."""

from service.engine.onnx.engine import build_onnx_engine, create_onnx_engine, runs_well

__all__ = ["build_onnx_engine", "create_onnx_engine", "runs_well"]

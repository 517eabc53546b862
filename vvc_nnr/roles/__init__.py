"""What a tensor is, told by its module, its name or its ONNX node, and so what it may lose."""

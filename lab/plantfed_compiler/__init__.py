"""From an ONNX network to graphs that train it with nothing but standard ONNX operators."""

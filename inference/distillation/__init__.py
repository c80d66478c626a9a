"""A student trained on its teacher's distributions. No Django; only `llama` and `training` import PyTorch."""

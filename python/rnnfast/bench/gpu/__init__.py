"""``rnnfast bench --device cuda``: modules on a GPU beside PyTorch's, and cuDNN called directly."""

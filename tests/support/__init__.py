"""What several tests share: a fake Hub and GGUF files made to order."""
